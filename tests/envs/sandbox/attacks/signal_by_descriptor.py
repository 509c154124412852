"""Kills another process through a descriptor of it."""

import json
import os
import signal

outside = json.loads(input())

signal.pidfd_send_signal(os.pidfd_open(outside["process"]), signal.SIGKILL)
