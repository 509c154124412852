"""Starts more processes than it may have."""

import json
import os
import time

outside = json.loads(input())

children = []
for _ in range(2 * outside["max_processes"]):
    try:
        child = os.fork()
    except OSError:
        break
    if child == 0:
        time.sleep(1.0)
        os._exit(0)
    children.append(child)
if len(children) > outside["max_processes"]:
    print("ESCAPED", len(children))
