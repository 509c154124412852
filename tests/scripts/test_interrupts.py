"""Ctrl-C as a polite request."""

import os
import signal

import pytest

from maskgym.scripts.interrupts import stop_on_interrupt


def test_the_first_ctrl_c_asks_and_the_second_interrupts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), stop_on_interrupt("Stopping.") as should_stop:
        assert not should_stop()
        os.kill(os.getpid(), signal.SIGINT)
        assert should_stop()
        assert "Stopping." in capsys.readouterr().err
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
