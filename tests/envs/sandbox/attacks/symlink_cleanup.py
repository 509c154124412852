"""Leaves links that lead the removal of its folder astray."""

import json
import os

outside = json.loads(input())

os.symlink(os.path.dirname(outside["secret_file"]), "folder")
os.symlink(outside["secret_file"], "file")
os.mkdir("deep", 0o000)
