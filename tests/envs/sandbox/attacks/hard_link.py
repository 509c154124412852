"""Links a file from outside into its folder."""

import json
import os
from pathlib import Path

outside = json.loads(input())

os.link(outside["secret_file"], "mine")
print(Path("mine").read_text())
