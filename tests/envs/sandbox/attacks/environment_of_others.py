"""Looks for a secret in the environments of other processes."""

import glob
from pathlib import Path

for path in glob.glob("/proc/[0-9]*/environ"):
    try:
        print(Path(path).read_bytes())
    except OSError:
        continue
