"""Kills another process of the same user."""

import json
import os
import signal

outside = json.loads(input())

os.kill(outside["process"], signal.SIGKILL)
