"""Kills another process by the number of its thread."""

import ctypes
import json
import platform

outside = json.loads(input())

libc = ctypes.CDLL(None, use_errno=True)
number = {"x86_64": 200, "aarch64": 130}[platform.machine()]
libc.syscall(number, outside["process"], 9)
