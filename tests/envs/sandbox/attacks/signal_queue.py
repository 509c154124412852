"""Kills another process with a queued signal."""

import ctypes
import json

outside = json.loads(input())

libc = ctypes.CDLL(None, use_errno=True)
libc.sigqueue(outside["process"], 9, None)
