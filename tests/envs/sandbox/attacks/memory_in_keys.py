"""Keeps data in the keyring of the kernel."""

import ctypes
import platform

libc = ctypes.CDLL(None, use_errno=True)
number = {"x86_64": 248, "aarch64": 217}[platform.machine()]
if libc.syscall(number, b"user", b"maskgym", b"x", 1, -3) >= 0:
    print("ESCAPED")
