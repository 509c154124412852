"""Literal cases of peers' own test suites in, how many of them hold here and why others do not out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from maskgym.envs import EpisodeConfig, MathEnv, SearchEnv, Task, XMLProtocol, verify_math
from maskgym.envs.protocol import ActionKind
from maskgym.envs.sandbox import LocalSandbox
from maskgym.envs.tools import PythonTool, SearchTool
from maskgym.envs.verifiers import Normalization, exact_match
from maskgym.retrieval import BM25Index, Passage

from .tables import Table

_SPACES = "spaces around a query are taken off"
_ONE_ACTION = "a turn is one action: the answer, which ends the episode"
_HINT = "an empty search gets a notice and never reaches the retriever"
_EQUAL = "the values are equal"
_LAST_BOX = "the last box is the answer, whatever broken markup follows it"
_TIMEOUT = "a time limit of 0.1 s is a property of that suite's rubric"

DEVIATIONS: Mapping[tuple[str, int], str] = {
    ("search", 1): _SPACES,
    ("search", 5): _HINT,
    ("search", 7): _ONE_ACTION,
    ("aime", 4): _EQUAL,
    ("aime", 7): _LAST_BOX,
    ("aime", 9): _LAST_BOX,
    ("math_rubric", 5): _TIMEOUT,
    ("math_rubric", 6): _TIMEOUT,
}
"""Cases that are meant to come out otherwise here, by set and row."""

_FILES = {
    "search": "skyrl-gym__tests__test_search.jsonl",
    "aime": "skyrl-gym__tests__test_aime.jsonl",
    "gsm8k": "skyrl-gym__tests__test_gsm8k.jsonl",
    "searchcode": "skyrl-gym__tests__test_searchcode.jsonl",
    "math_rubric": "tests__test_math_rubric.jsonl",
}
_INDEX = BM25Index.build([Passage(id="1", title="France", text="The president is somebody.")])


def measure_peers(data: Path) -> list[Table]:
    """A row for each set, and each case that comes out otherwise."""
    summary = Table(
        title="Cases of SkyRL-Gym's and Verifiers' own tests",
        columns=("set", "cases", "hold", "deviate, explained", "deviate, unexplained"),
    )
    listed = Table(
        title="Cases of peers: each deviation", columns=("set", "row", "case", "because")
    )
    for name, file in _FILES.items():
        path = data / "env_test_cases" / file
        if not path.is_file():
            summary.notes.append(f"{name}: no file {path.name}; left out.")
            continue
        cases = [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
        with closing(LocalSandbox(require="T0")) as sandbox:
            differing = [
                number for number, case in enumerate(cases) if not _holds(name, case, sandbox)
            ]
        explained = [number for number in differing if (name, number) in DEVIATIONS]
        num_unexplained = len(differing) - len(explained)
        summary.add(name, len(cases), len(cases) - len(differing), len(explained), num_unexplained)
        for number in differing:
            case = {key: value for key, value in cases[number].items() if key != "check"}
            because = DEVIATIONS.get((name, number), "")
            listed.add(name, number, json.dumps(case, ensure_ascii=False)[:120], because)
    return [summary, listed]


def _holds(name: str, case: dict[str, Any], sandbox: LocalSandbox) -> bool:
    match name:
        case "aime":
            is_right = verify_math(case["output"], (case["ground_truth"],)).is_correct
            return bool(is_right == (case["expected"] == 1.0))
        case "gsm8k":
            grade = verify_math(case["output"], (case["ground_truth"],), mode="compat:gsm8k")
            return bool(grade.is_correct == (case["expected"] == 1.0))
        case "math_rubric":
            return "test_case" in case and _rubric_holds(case)
        case "searchcode":
            return _code_case_holds(case, sandbox)
    return _SEARCH_CASES[case["test"]](case)


def _rubric_holds(case: dict[str, Any]) -> bool:
    each = case["test_case"]
    is_right = verify_math(each["completion"], (each["answer"],)).is_correct
    return bool(is_right == (case["test"] == "test_score_valid_answers"))


def _code_case_holds(case: dict[str, Any], sandbox: LocalSandbox) -> bool:
    tools = (SearchTool(_INDEX), PythonTool(sandbox))
    if case["test"] == "test_tool_parsing":
        parsed = XMLProtocol.preset("skyrl").parse(case["action"], tools)
        wanted = (case["expected_tool_name"], case["expected_tool_input"][0])
        return bool((parsed.tool, parsed.argument) == wanted)
    with closing(
        MathEnv(tasks=[Task(task_id="t", question="?", answers=("1",))], tools=tools)
    ) as env:
        env.reset()
        text = env.step(case["action"])[0]["text"]
    last = case["expected_output"].splitlines()[-1]
    return text.removesuffix("\n</result>").endswith(last)


def _parse_holds(case: dict[str, Any]) -> bool:
    parsed = XMLProtocol.preset("skyrl").parse(case["action"], (SearchTool(_INDEX),))
    is_search = parsed.kind is ActionKind.TOOL
    return bool([parsed.argument if is_search else None] == case["expected_input"])


def _end_holds(case: dict[str, Any]) -> bool:
    *_, (_, is_over) = _played(case, "x", case["max_turns"], case["current_turns"])
    return bool(is_over == case["expected"])


def _reward_holds(case: dict[str, Any]) -> bool:
    *_, (reward, is_over) = _played(case, case["ground_truth"]["target"], 3, 1)
    return bool((reward, is_over) == (case["expected_reward"], case["expected_done"]))


def _played(
    case: dict[str, Any], gold: str, max_turns: int, turn: int
) -> Iterator[tuple[float, bool]]:
    """Reward and end of each turn, up to the one on which the case's action is played."""
    task = Task(task_id="t", question="?", answers=(gold,))
    config = EpisodeConfig(max_turns=max_turns, max_invalid_actions=None)
    protocol = XMLProtocol.preset("skyrl")
    with closing(
        SearchEnv(tasks=[task], retriever=_INDEX, config=config, protocol=protocol)
    ) as env:
        env.reset()
        for action in (*["nothing"] * (turn - 1), case["action"]):
            _, reward, terminated, truncated, _ = env.step(action)
            yield reward, terminated or truncated


def _extraction_holds(case: dict[str, Any]) -> bool:
    parsed = XMLProtocol(which="last").parse(case["solution_str"], ())
    found = parsed.argument if parsed.kind is ActionKind.ANSWER else None
    return bool(found == case["expected"])


def _match_holds(case: dict[str, Any]) -> bool:
    golds = case["golden_answers"]
    golds = [golds] if isinstance(golds, str) else golds
    return bool(exact_match(case["prediction"], golds, Normalization.COMPAT) == case["expected"])


_SEARCH_CASES: Mapping[str, Callable[[dict[str, Any]], bool]] = {
    "test_parse_action": _parse_holds,
    "test_is_done": _end_holds,
    "test_reward_computation": _reward_holds,
    "test_extract_solution": _extraction_holds,
    "test_em_check": _match_holds,
}
