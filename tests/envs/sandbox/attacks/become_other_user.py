"""Becomes another user."""

import os

other = os.getuid() + 1
os.setresuid(other, other, other)
print("ESCAPED")
