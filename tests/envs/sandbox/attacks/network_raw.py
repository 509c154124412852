"""Opens sockets of rare families."""

import socket

for family, kind in (
    (socket.AF_NETLINK, socket.SOCK_RAW),
    (socket.AF_PACKET, socket.SOCK_RAW),
    (38, 5),
    (40, 1),
):
    try:
        socket.socket(family, kind).close()
    except OSError:
        continue
    print("ESCAPED", family)
