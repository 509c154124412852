"""Writes more into its folder than it may."""

import json
import time

outside = json.loads(input())

for number in range(6 * outside["max_disk_mb"]):
    with open(f"file{number}", "wb") as file:
        file.write(bytes(1 << 20))
    time.sleep(0.01)
print("ESCAPED")
