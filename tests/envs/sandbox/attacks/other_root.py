"""Moves its root folder and mounts things."""

import ctypes

libc = ctypes.CDLL(None, use_errno=True)
if libc.chroot(b".") == 0 or libc.mount(b"none", b".", b"tmpfs", 0, b"size=4k") == 0:
    print("ESCAPED")
