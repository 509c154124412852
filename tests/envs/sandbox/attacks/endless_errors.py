"""Prints 900 MB to standard error."""

import os

line = b"x" * (1 << 20)
for _ in range(900):
    os.write(2, line)
