"""Keeps memory in files that exist in memory only, where no limit counts it."""

import json
import os

outside = json.loads(input())

held = []
for _ in range(outside["memory_mb"] // 16 + 2):
    held.append(os.memfd_create("x"))
    os.write(held[-1], bytes(16 << 20))
print("ESCAPED")
