"""Makes more files than its space has room for."""

import json
import time
from pathlib import Path

outside = json.loads(input())

for number in range(512 * outside["max_disk_mb"]):
    Path(f"file{number}").touch()
time.sleep(1.0)
print("ESCAPED")
