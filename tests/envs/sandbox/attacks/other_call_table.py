"""Makes system calls through the tables of 32-bit programs."""

import ctypes
import mmap
import platform

if platform.machine() != "x86_64":
    raise SystemExit
libc = ctypes.CDLL(None, use_errno=True)
if libc.syscall(0x40000000 | 39) > 0:  # getpid of x32
    print("ESCAPED x32", flush=True)
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(bytes.fromhex("b814000000cd80c3"))  # mov eax, 20 (getpid of i386); int 0x80; ret
address = ctypes.addressof(ctypes.c_char.from_buffer(page))
if ctypes.CFUNCTYPE(ctypes.c_int)(address)() > 0:
    print("ESCAPED i386", flush=True)
