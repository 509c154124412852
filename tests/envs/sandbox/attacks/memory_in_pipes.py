"""Keeps memory in large pipes."""

import fcntl
import os

held = []
for _ in range(24):
    pair = os.pipe()
    fcntl.fcntl(pair[1], 1031, 1 << 20)  # F_SETPIPE_SZ
    held.append(pair)
print("ESCAPED")
