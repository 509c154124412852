"""Deletes a file outside."""

import json
import os

outside = json.loads(input())

os.unlink(outside["secret_file"])
