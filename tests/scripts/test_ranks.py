"""Several processes from one command: their exit codes, and what each of them is told."""

import signal
import threading
from pathlib import Path

import pytest

from maskgym.scripts.ranks import is_rank, start_ranks


def test_ranks_give_the_exit_code_of_the_first_to_fail(capfd: pytest.CaptureFixture[str]) -> None:
    assert start_ranks(["--version"], num_ranks=2) == 0
    assert capfd.readouterr().out.count("maskgym") == 2
    assert start_ranks(["trian"], num_ranks=2) == 2
    assert capfd.readouterr().err.count("Did you mean 'train'?") == 2
    assert not is_rank()


def test_sigterm_reaches_every_rank_and_handlers_are_put_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    timer = threading.Timer(0.2, signal.raise_signal, [signal.SIGTERM])
    timer.start()
    assert start_ranks(["train", "--help"], num_ranks=1) in (0, 128 + signal.SIGTERM)
    timer.join()
    assert signal.getsignal(signal.SIGTERM) is before
