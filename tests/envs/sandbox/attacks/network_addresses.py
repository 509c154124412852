"""Asks any socket for the addresses of this machine."""

import fcntl
import socket
import struct

left, right = socket.socketpair()
request = struct.pack("16s16x", b"lo")
fcntl.ioctl(left, 0x8927, request)  # SIOCGIFHWADDR
print("ESCAPED")
