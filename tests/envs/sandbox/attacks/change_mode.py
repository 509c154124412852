"""Changes the mode of a file outside."""

import json
import os

outside = json.loads(input())

os.chmod(outside["mode_file"], 0o777)
