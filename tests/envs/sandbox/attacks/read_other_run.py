"""Reads the folder of another run."""

import json
from pathlib import Path

outside = json.loads(input())

print(Path(outside["sibling_file"]).read_text())
