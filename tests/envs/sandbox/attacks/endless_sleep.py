"""Stops itself, which uses no CPU time."""

import os
import signal

os.kill(os.getpid(), signal.SIGSTOP)
