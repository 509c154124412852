"""Worker of bounded.py: one function and questions to it in, "1", "0" or "?" for each out.

Started as a script with the number of a socket; imports nothing of the package by itself. It ends
when the socket closes, and by itself if a call runs past its time and nobody is left to end it.
"""

import faulthandler
import os
import pickle
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection

_GRACE_S = 1.0  # the process that asked ends a late worker first


def serve(channel: Connection) -> None:
    """Answers until the other side is gone."""
    quiet = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(quiet, stream)
    function: Callable[..., object] | None = None
    while True:
        try:
            kind, content = pickle.loads(channel.recv_bytes())
        except (EOFError, OSError):
            return
        if kind == "path":
            sys.path[:] = content
            continue
        if kind == "load":
            try:
                function = pickle.loads(content)
                reply = b"1"
            except BaseException:  # whatever its module does on import
                reply = b"?"
        else:
            assert function is not None
            timeout_s, arguments = content
            # A thread in C: also ends a call that is stuck in C and holds the interpreter.
            faulthandler.dump_traceback_later(timeout_s + _GRACE_S, exit=True, file=quiet)
            try:
                reply = b"1" if function(*arguments) else b"0"
            except BaseException:  # also SystemExit: a verifier that leaves has said nothing
                reply = b"?"
            faulthandler.cancel_dump_traceback_later()
        channel.send_bytes(reply)


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
    os._exit(0)  # threads that a verifier left behind do not keep this process
