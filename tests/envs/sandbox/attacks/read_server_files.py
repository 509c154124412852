"""Opens what its parent and every other process has open, through /proc."""

import os

for process in filter(str.isdigit, os.listdir("/proc")):
    if int(process) == os.getpid():
        continue
    try:
        names = os.listdir(f"/proc/{process}/fd")
    except OSError:
        continue
    for name in names:
        try:
            os.close(os.open(f"/proc/{process}/fd/{name}", os.O_RDONLY | os.O_NONBLOCK))
        except OSError:
            continue
        print("ESCAPED", process, name)
