"""Writes more than it may into files that have no name any more."""

import json
import os
import time

outside = json.loads(input())

held = []
for _ in range(6 * outside["max_disk_mb"] // 4):
    held.append(os.open("file", os.O_WRONLY | os.O_CREAT))
    os.unlink("file")
    os.write(held[-1], bytes(4 << 20))
    time.sleep(0.02)
print("ESCAPED")
