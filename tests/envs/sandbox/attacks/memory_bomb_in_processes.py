"""Allocates more than it may, spread over processes."""

import json
import os
import time

outside = json.loads(input())

num_bytes = outside["memory_mb"] * (1 << 20) // 3
children = []
for _ in range(4):
    child = os.fork()
    if child == 0:
        block = bytearray(num_bytes)
        time.sleep(0.5)
        os._exit(0)
    children.append(child)
if all(os.waitpid(child, 0)[1] == 0 for child in children):
    print("ESCAPED")
