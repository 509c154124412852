"""Attaches to another process as a debugger does."""

import ctypes
import json

outside = json.loads(input())

libc = ctypes.CDLL(None, use_errno=True)
if libc.ptrace(0x4206, outside["process"], 0, 0) == 0:  # PTRACE_SEIZE, which does not stop it
    print("ESCAPED")
