"""Changes a file outside."""

import json
import os

outside = json.loads(input())

os.write(os.open(outside["secret_file"], os.O_WRONLY | os.O_APPEND), b"x")
