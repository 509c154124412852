"""In: a process. Out: the bytes on disk of files that only it still holds, having deleted them.

Such files are in no folder, so that no walk finds them; the descriptors of the process show them.
"""

import os
import stat


def unlinked_bytes(process: int) -> int:
    """Disk space of deleted regular files that `process` has open; 0 if its files may not be seen."""
    total = 0
    seen = set()
    try:
        names = os.listdir(f"/proc/{process}/fd")
    except OSError:  # it has ended, or may not be looked at
        return 0
    for name in names:
        try:
            info = os.stat(f"/proc/{process}/fd/{name}")
        except OSError:
            continue
        is_deleted = stat.S_ISREG(info.st_mode) and info.st_nlink == 0
        if is_deleted and (info.st_dev, info.st_ino) not in seen:
            seen.add((info.st_dev, info.st_ino))
            total += info.st_blocks * 512
    return total
