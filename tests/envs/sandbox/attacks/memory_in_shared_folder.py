"""Keeps memory in /dev/shm."""

import json
from pathlib import Path

outside = json.loads(input())

Path("/dev/shm/" + outside["unix_name"]).write_bytes(bytes(1 << 20))
