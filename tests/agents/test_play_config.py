"""What a configuration plays: its environment and its tasks, and no torch for that."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from maskgym.agents.config import config_from_dict
from maskgym.agents.play_config import PlayConfig, make_env, task_source
from maskgym.envs import JSONProtocol, XMLProtocol, testbed

VALUES = {"env_id": "search", "model": ""}


def test_actions_are_written_in_tags_unless_json_is_asked_for() -> None:
    for settings, kind in (({}, XMLProtocol), ({"json_protocol": {"which": "last"}}, JSONProtocol)):
        config = config_from_dict(PlayConfig, {**VALUES, **settings})
        saved = config_from_dict(PlayConfig, json.loads(json.dumps(asdict(config))))
        env = make_env(saved, testbed("search", level=1, size=2))
        assert isinstance(env.protocol, kind)
        env.close()
    assert isinstance(env.protocol, JSONProtocol) and env.protocol.which == "last"
    with pytest.raises(ValueError, match=r"json_protocol\.wich"):
        config_from_dict(PlayConfig, {**VALUES, "json_protocol": {"wich": "last"}})


def test_a_run_can_name_a_benchmark(tmp_path: Path) -> None:
    (tmp_path / "bamboogle").mkdir()
    rows = [{"id": f"test_{n}", "question": "q", "golden_answers": ["a"]} for n in range(125)]
    (tmp_path / "bamboogle/test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    tasks = task_source(
        f"bench:bamboogle,data={tmp_path}", config_from_dict(PlayConfig, dict(VALUES))
    )
    assert len(tasks) == 125 and tasks[0].task_id == "bamboogle/test_0"
    with pytest.raises(ValueError, match="bamboogle is a search benchmark, not a math one"):
        task_source("bench:bamboogle", config_from_dict(PlayConfig, {**VALUES, "env_id": "math"}))


def test_an_evaluation_without_a_model_of_its_own_imports_no_torch() -> None:
    modules = (
        "evaluation.config",
        "evaluation.table",
        "endpoint.player",
        "play_config",
        "policies",
    )
    imports = "; ".join(f"import maskgym.agents.{module}" for module in modules)
    words = f"import sys; {imports}\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", words], check=True)
