"""May signal the process that started it (signal 0, which only asks)."""

import os

os.kill(os.getppid(), 0)
print("ESCAPED")
