"""Takes open files away from another process."""

import json
import resource

outside = json.loads(input())

resource.prlimit(outside["process"], resource.RLIMIT_NOFILE, (17, 17))
