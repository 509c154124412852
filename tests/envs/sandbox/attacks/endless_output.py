"""Prints 900 MB."""

import sys

line = "x" * 999_999 + "\n"
for _ in range(900):
    sys.stdout.write(line)
