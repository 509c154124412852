"""May signal every process there is (signal 0, which only asks)."""

import os

os.kill(-1, 0)
print("ESCAPED")
