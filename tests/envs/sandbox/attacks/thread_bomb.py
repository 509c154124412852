"""Starts more threads than it may have and keeps them."""

import json
import os
import sys
import threading
import time

outside = json.loads(input())

threading.stack_size(32768)
num_threads = 0
try:
    for _ in range(8 * outside["max_processes"]):
        threading.Thread(target=time.sleep, args=(3.0,), daemon=True).start()
        num_threads += 1
except RuntimeError:
    pass
time.sleep(1.5)
if num_threads > 2 * outside["max_processes"]:
    print("ESCAPED", num_threads)
sys.stdout.flush()
os._exit(0)
