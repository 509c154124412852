"""Changes the times of a file outside."""

import json
import os

outside = json.loads(input())

os.utime(outside["mode_file"], (1, 1))
