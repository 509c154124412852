"""Reads the command lines of other processes."""

import contextlib
import os
from pathlib import Path

for process in filter(str.isdigit, os.listdir("/proc")):
    if int(process) != os.getpid():
        with contextlib.suppress(OSError):
            print("ESCAPED", Path(f"/proc/{process}/cmdline").read_text())
