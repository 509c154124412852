"""A command of ours in, the same command in several processes (ranks) out, as torchrun starts them."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType

_GRACE_S = 20.0  # for ranks that notice by themselves that another one has died
_POLL_S = 0.1
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG, linux/prctl.h


def is_rank() -> bool:
    """Whether this process was started by torchrun or by us, as one of several or alone."""
    return "LOCAL_RANK" in os.environ and "RANK" in os.environ


def start_ranks(words: Sequence[str], *, num_ranks: int) -> int:
    """Runs `maskgym WORDS...` in `num_ranks` processes on this machine; the exit code of the first to fail.

    Ctrl-C and SIGTERM reach every rank once, whoever they were sent to first. Where a rank dies the
    others end too. For several machines start it with torchrun: `torchrun --nnodes ... -m maskgym WORDS...`.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": num_ranks, "LOCAL_WORLD_SIZE": num_ranks, "MASTER_PORT": port}
    ranks: list[subprocess.Popen[bytes]] = []

    def hand_on(number: int, frame: FrameType | None) -> None:
        for rank in ranks:
            if rank.poll() is None:
                rank.send_signal(number)

    handled = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, hand_on) for number in handled}
    try:
        for rank in range(num_ranks):
            own = {"RANK": rank, "LOCAL_RANK": rank, **shared}
            ranks.append(
                subprocess.Popen(
                    [sys.executable, "-m", "maskgym", *words],
                    env={
                        **os.environ,
                        "MASTER_ADDR": "127.0.0.1",
                        **{k: str(v) for k, v in own.items()},
                    },
                    process_group=0,  # a terminal's Ctrl-C comes through `hand_on` alone
                    preexec_fn=_die_with_parent,
                )
            )
        return _wait(ranks)
    finally:
        for process in ranks:
            if process.poll() is None:
                process.kill()
                process.wait()
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(ranks: Sequence["subprocess.Popen[bytes]"]) -> int:
    """The first exit code that is not 0, once all have ended or the time of the others is over."""
    first, deadline_s = 0, float("inf")
    while any(rank.poll() is None for rank in ranks) and time.monotonic() < deadline_s:
        time.sleep(_POLL_S)
        codes = [rank.poll() for rank in ranks]
        if not first and (first := next((code for code in codes if code), 0)):
            deadline_s = time.monotonic() + _GRACE_S
            if first < 0:
                number = codes.index(first)
                print(
                    f"maskgym: error: rank {number} was ended by {signal.Signals(-first).name} (where "
                    "nobody sent it: out of memory). The run resumes from its last checkpoint.",
                    file=sys.stderr,
                )
    first = first or next((code for rank in ranks if (code := rank.poll())), 0)
    return first if first >= 0 else 128 - first  # as a shell counts signals


def _die_with_parent() -> None:
    """A rank whose launcher is killed would train on, unseen, and keep the run's folder."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGTERM)
