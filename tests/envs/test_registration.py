import json
import subprocess
import sys
from pathlib import Path

import gymnasium
import pytest

from maskgym.envs import ENV_IDS, find_env_id, register_envs

_HEAVY = (
    "torch",
    "pyarrow",
    "numba",
    "sympy",
    "math_verify",
    "transformers",
    "vllm",
    "spacy",
    "faiss",
)

# Plays the expert and some garbage in each environment; prints all that came back.
_EPISODES = """
import json, random, sys
import gymnasium
from maskgym.envs import expert_actions
state = random.getstate()
record = []
for name in ("Math", "Code", "Search"):
    env = gymnasium.make(f"maskgym:maskgym/{name}-v0", scaffold="all")
    for seed in (1, 2):
        observation, info = env.reset(seed=seed)
        record.append([observation, info])
        base = env.unwrapped
        expert = expert_actions(base.task.expert_trace, base.protocol, "")
        for action in ["<serch>日本</serch>", *expert]:
            record.append(env.step(action))
    env.close()
assert random.getstate() == state
json.dump(record, sys.stdout)
"""


def python(code: str, *, cwd: Path, hash_seed: str = "0") -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONHASHSEED": hash_seed, "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_registers_the_ids_and_loads_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys, maskgym, gymnasium\n"
        f"print([name for name in {_HEAVY!r} if name in sys.modules])\n"
        f"print(all(name in gymnasium.registry for name in {ENV_IDS!r}))"
    )
    assert python(code, cwd=tmp_path).split("\n")[:2] == ["[]", "True"]


def test_an_environment_is_made_by_its_id_alone(tmp_path: Path) -> None:
    code = (
        "import gymnasium\n"
        "env = gymnasium.make('maskgym:maskgym/Search-v0')\n"
        "print(type(env.unwrapped).__name__)"
    )
    assert python(code, cwd=tmp_path).strip() == "SearchEnv"


def test_equal_seeds_and_actions_give_equal_episodes_in_two_processes(tmp_path: Path) -> None:
    first = python(_EPISODES, cwd=tmp_path, hash_seed="1")
    assert first == python(_EPISODES, cwd=tmp_path, hash_seed="2")
    rewards = [row[1] for row in json.loads(first) if len(row) == 5 and row[2]]
    assert rewards == [1.0] * 6


def test_registering_again_changes_nothing() -> None:
    before = {name: gymnasium.registry[name] for name in ENV_IDS}
    register_envs()
    assert all(gymnasium.registry[name] is before[name] for name in ENV_IDS)


@pytest.mark.parametrize("name", ["search", "Search-v0", "maskgym/Search-v0"])
def test_short_names_are_understood(name: str) -> None:
    assert find_env_id(name) == "maskgym/Search-v0"


def test_an_id_with_its_module_is_kept() -> None:
    assert find_env_id("maskgym.envs:maskgym/Math-v0") == "maskgym.envs:maskgym/Math-v0"
    with pytest.raises(ImportError):
        find_env_id("no_such_module_here:x/Y-v0")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("maskgym/Serach-v0", "maskgym/Search-v0"),
        ("maht", "maskgym/Math-v0"),
        ("CartPole-v9", "CartPole-v"),
    ],
)
def test_an_unknown_id_raises_with_the_nearest_one(name: str, nearest: str) -> None:
    with pytest.raises(LookupError, match=f"Did you mean '{nearest}"):
        find_env_id(name)
