"""Slows another process down."""

import contextlib
import json
import os

outside = json.loads(input())

with contextlib.suppress(OSError):
    os.setpriority(os.PRIO_PROCESS, outside["process"], 19)
    print("ESCAPED priority")
with contextlib.suppress(OSError):
    os.sched_setaffinity(outside["process"], {0})
    print("ESCAPED processors")
