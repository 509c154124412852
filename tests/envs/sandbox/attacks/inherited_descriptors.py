"""Looks for open files that it did not open."""

import os

for descriptor in range(3, 4096):
    try:
        os.fstat(descriptor)
    except OSError:
        continue
    print("ESCAPED", descriptor)
