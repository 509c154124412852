"""Writes a file outside."""

import json
from pathlib import Path

outside = json.loads(input())

Path(outside["new_file"]).write_text("x")
