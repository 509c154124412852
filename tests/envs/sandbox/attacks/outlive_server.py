"""Asks to live on when the server that started it ends."""

import ctypes

libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(1, 0, 0, 0, 0) == 0:
    print("ESCAPED")
