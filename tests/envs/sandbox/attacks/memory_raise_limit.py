"""Raises its own limit and allocates more."""

import json
import resource

outside = json.loads(input())

resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
block = bytearray((outside["memory_mb"] + 32) << 20)
print("ESCAPED")
