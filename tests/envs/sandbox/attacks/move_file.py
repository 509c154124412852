"""Moves a file from outside into its folder."""

import json
import os

outside = json.loads(input())

os.rename(outside["secret_file"], "mine")
