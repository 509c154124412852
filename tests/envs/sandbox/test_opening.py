import pytest

from maskgym.envs import CodeEnv
from maskgym.envs.sandbox import LocalSandbox, SubprocessSandbox
from maskgym.envs.sandbox.http_sandbox import HTTPSandbox
from maskgym.envs.sandbox.opening import open_sandbox


def test_each_name_opens_its_sandbox() -> None:
    local = open_sandbox("T0")
    assert isinstance(local, LocalSandbox) and local.require == "T0"
    assert isinstance(open_sandbox("subprocess"), SubprocessSandbox)
    assert isinstance(open_sandbox("http://127.0.0.1:8080"), HTTPSandbox)


@pytest.mark.parametrize(("name", "near"), [("t2", "T2"), ("subproces", "subprocess"), ("", "")])
def test_an_unknown_name_offers_the_nearest(name: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"Did you mean '{near}"):
        open_sandbox(name)


def test_an_environment_takes_a_sandbox_by_name_and_stamps_its_tier() -> None:
    env = CodeEnv(sandbox="subprocess")
    _, info = env.reset(seed=0)
    assert info["sandbox_tier"] == "T0"
    env.close()
