"""Empties a file outside by its name."""

import json
import os

outside = json.loads(input())

os.truncate(outside["secret_file"], 0)
