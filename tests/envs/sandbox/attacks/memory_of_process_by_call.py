"""Reads the memory of another process by system call."""

import ctypes
import json

outside = json.loads(input())

libc = ctypes.CDLL(None, use_errno=True)
if libc.process_vm_readv(outside["process"], None, 0, None, 0, 0) == 0:
    print("ESCAPED")
