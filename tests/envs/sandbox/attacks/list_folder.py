"""Lists the folder of the user."""

import json
import os

outside = json.loads(input())

print("ESCAPED", os.listdir(os.path.dirname(outside["secret_file"])))
