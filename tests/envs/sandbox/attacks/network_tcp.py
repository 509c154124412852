"""Sends to a TCP port of this machine."""

import json
import socket

outside = json.loads(input())

socket.create_connection(("127.0.0.1", outside["tcp_port"]), 2).send(b"escaped")
