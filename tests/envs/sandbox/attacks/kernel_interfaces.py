"""Opens interfaces through which kernels have been attacked."""

import ctypes
import platform

libc = ctypes.CDLL(None, use_errno=True)
buffer = ctypes.create_string_buffer(256)
common = {"io_uring_setup": (425, 4, buffer), "pidfd_getfd": (438, 0, 0, 0)}
own = {
    "x86_64": {"bpf": (321, 0, buffer, 72), "userfaultfd": (323, 1), "inotify_init1": (294, 0)},
    "aarch64": {"bpf": (280, 0, buffer, 72), "userfaultfd": (282, 1), "inotify_init1": (26, 0)},
}
for name, call in (common | own[platform.machine()]).items():
    if libc.syscall(*call) >= 0:
        print("ESCAPED", name)
