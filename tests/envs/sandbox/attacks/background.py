"""Leaves a process behind that outlives the run."""

import os
import time

if os.fork() == 0:
    os.setsid()
    child = os.fork()
    if child == 0:
        for descriptor in range(3):
            os.close(descriptor)
        time.sleep(20.0)
        os._exit(0)
    print("PID", child, flush=True)
    os._exit(0)
os.wait()
