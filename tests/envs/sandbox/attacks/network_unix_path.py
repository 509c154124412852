"""Connects to a socket in the file system."""

import json
import socket

outside = json.loads(input())

with socket.socket(socket.AF_UNIX) as sender:
    sender.connect(outside["unix_path"])
    sender.send(b"escaped")
