"""Never ends, in C, with every signal ignored."""

import signal

for number in range(1, 32):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        continue
sum(range(10**13))
