"""Reads a file of the same user."""

import json
from pathlib import Path

outside = json.loads(input())

print(Path(outside["secret_file"]).read_text())
