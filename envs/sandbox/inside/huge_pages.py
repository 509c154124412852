"""In: a warm process about to fork often. Out: its memory in pages of 2 MiB where the kernel can.

A fork copies, and an exit takes apart, an entry for each page: with SymPy loaded that is most of
what a short program costs. Pages that a child writes to are split again by the kernel.
Source: Linux Documentation/admin-guide/mm/transhuge.rst; `madvise(2)`, MADV_COLLAPSE (Linux 6.1).
"""

import ctypes

_HUGE = 2 << 20
_MADV_NOHUGEPAGE, _MADV_COLLAPSE = 15, 25


def collapse() -> None:
    """Collapses the private memory of this process; without effect where that is not known."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    with open("/proc/self/maps") as file:
        lines = [line.split() for line in file]
    for span, rights, *_, name in (line if len(line) > 5 else [*line, ""] for line in lines):
        start, end = (int(word, 16) for word in span.split("-"))
        first, last = -(-start // _HUGE) * _HUGE, end // _HUGE * _HUGE
        if rights == "rw-p" and name in ("", "[heap]") and first < last:
            libc.madvise(first, last - first, _MADV_COLLAPSE)
            # Else the kernel would collapse each child's memory too, and sessions live long.
            libc.madvise(start, end - start, _MADV_NOHUGEPAGE)
