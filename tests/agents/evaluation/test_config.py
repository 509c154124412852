"""What makes two evaluations the same, and what no evaluation may be."""

from dataclasses import replace
from pathlib import Path

import pytest

from maskgym.agents.evaluation.config import (
    EvaluationConfig,
    check_bare,
    describe_suites,
    differences,
    load_suites,
    open_run,
)
from maskgym.agents.run_folder import plain_values

CONFIG = EvaluationConfig(
    env_id="maskgym/Search-v0",
    model="",
    tasks="testbed:level=1,split=test",
    num_questions=3,
    policy="expert",
)


def test_only_settings_without_a_scaffold_pass() -> None:
    check_bare(plain_values(CONFIG))
    check_bare(plain_values(replace(CONFIG, env_kwargs={"scaffold": ""})))
    with pytest.raises(ValueError, match=r"always bare, and env_kwargs\.scaffold=all shows"):
        check_bare(plain_values(replace(CONFIG, env_kwargs={"scaffold": "all"})))
    for guided in ({"guidance": {"planner": "mixed"}}, {"trainer": {"guidance": {"level": 1}}}):
        with pytest.raises(ValueError, match=r"guidance\.(planner=mixed|level=1) shows a scaffold"):
            check_bare(guided)


def test_a_run_goes_on_under_the_same_configuration_and_questions_alone(tmp_path: Path) -> None:
    suites = load_suites(CONFIG)
    (name,) = suites
    assert len(suites[name].tasks) == 3
    open_run(tmp_path / "run", CONFIG, suites)
    assert open_run(tmp_path / "run", CONFIG, suites).path == tmp_path / "run"
    with pytest.raises(ValueError, match=r"policy: 'expert' there, 'search-first' here"):
        open_run(tmp_path / "run", replace(CONFIG, policy="search-first"), suites)
    other = {name: replace(suites[name], tasks=suites[name].tasks[::-1])}
    with pytest.raises(ValueError, match="sha256"):
        open_run(tmp_path / "run", CONFIG, other)


def test_a_training_run_is_not_taken_for_an_evaluation(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.json").write_text("{}")
    with pytest.raises(FileExistsError, match="a run of another kind"):
        open_run(tmp_path / "run", CONFIG, load_suites(CONFIG))


def test_the_fingerprint_tells_answers_apart() -> None:
    suites = load_suites(CONFIG)
    (name,) = suites
    tasks = suites[name].tasks
    changed = (replace(tasks[0], answers=("nobody",)), *tasks[1:])
    mended = {name: replace(suites[name], tasks=changed)}
    assert describe_suites(suites) == describe_suites(load_suites(CONFIG))
    assert describe_suites(suites) != describe_suites(mended)


def test_two_questions_of_one_id_are_refused(tmp_path: Path) -> None:
    rows = '{"question": "Who?", "golden_answers": ["x"]}\n'
    (tmp_path / "q.jsonl").write_text(rows)
    config = replace(CONFIG, tasks=str(tmp_path / "q.jsonl"))
    (name,) = load_suites(config)
    assert name == "q"
    twice = '{"id": "1", "question": "Who?", "golden_answers": ["x"]}\n' * 2
    (tmp_path / "q.jsonl").write_text(twice)
    with pytest.raises(ValueError, match="ids"):
        load_suites(config)


def test_differences_are_named_by_their_place() -> None:
    found = differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": 4}, sides=("A", "B"))
    assert found == ["a.c: 2 A, 3 B", "d: None A, 4 B"]
    assert differences({"a": None}, {"a": {"b": 1}}) == ["a: None there, {'b': 1} here"]
