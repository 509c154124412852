"""Starts processes past the Python interpreter."""

import ctypes
import os
import platform

libc = ctypes.CDLL(None, use_errno=True)
numbers = {"x86_64": (57, 56), "aarch64": (-1, 220)}[platform.machine()]
for number, flags in zip(numbers, (0, 17), strict=True):
    child = libc.syscall(number, flags, 0, 0, 0, 0)
    if child == 0:
        os._exit(0)
    if child > 0:
        os.waitpid(child, 0)
        print("ESCAPED", number)
if libc.system(b"exit 0") == 0:
    print("ESCAPED system")
