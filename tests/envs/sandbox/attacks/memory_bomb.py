"""Allocates more than it may."""

import json

outside = json.loads(input())

blocks = []
for _ in range(outside["memory_mb"] // 32 + 2):
    blocks.append(bytearray(32 << 20))
print("ESCAPED")
