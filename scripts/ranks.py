"""A command of ours in, the same command in several processes (ranks) out, by torchrun."""

import os
import subprocess
import sys
from collections.abc import Sequence


def is_rank() -> bool:
    """Whether this process was started by torchrun, as one of several or alone."""
    return "LOCAL_RANK" in os.environ and "RANK" in os.environ


def start_ranks(words: Sequence[str], *, num_ranks: int) -> int:
    """Runs `maskgym WORDS...` in `num_ranks` processes on this machine; the exit code of the first to fail.

    For several machines start it with torchrun yourself: `torchrun --nnodes ... -m maskgym WORDS...`.
    """
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    process = subprocess.Popen(
        [*launcher, f"--nproc-per-node={num_ranks}", "-m", "maskgym", *words]
    )
    while True:
        try:
            return process.wait()
        except (
            KeyboardInterrupt
        ):  # the terminal sent it to the ranks as well: they stop by themselves
            continue
