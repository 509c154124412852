"""Connects to an abstract socket."""

import json
import socket

outside = json.loads(input())

with socket.socket(socket.AF_UNIX) as sender:
    sender.connect("\0" + outside["unix_name"])
    sender.send(b"escaped")
