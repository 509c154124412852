"""Leaves a pipe and a device, which a reader of its folder would hang on."""

import contextlib
import os
import stat

with contextlib.suppress(OSError):
    os.mkfifo("pipe")
    print("ESCAPED pipe")
with contextlib.suppress(OSError):
    os.mknod("device", stat.S_IFCHR | 0o666, 0x103)
    print("ESCAPED device")
