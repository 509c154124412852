"""Opens the memory of another process."""

import json
import os

outside = json.loads(input())

for path in (f"/proc/{outside['process']}/mem", f"/proc/{outside['process']}/maps"):
    try:
        os.close(os.open(path, os.O_RDONLY))
    except OSError:
        continue
    print("ESCAPED")
