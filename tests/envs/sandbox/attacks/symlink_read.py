"""Reads a file outside through a link of its own."""

import json
import os
from pathlib import Path

outside = json.loads(input())

os.symlink(outside["secret_file"], "mine")
print(Path("mine").read_text())
