"""Leaks of real search trajectories, counted as a scorer would: by normalised containment."""

import gzip
import json
import re
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from maskgym.envs import Domain, Task
from maskgym.masking import ExpertTrace, mask
from maskgym.masking.trace_formats import parse_trace

DATA = Path(__file__).parents[3] / "shared" / "data"
PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised(text: str) -> str:
    """SQuAD's normal form: no case, punctuation and articles."""
    text = re.sub(r"\b(a|an|the)\b", " ", text.lower().translate(PUNCTUATION))
    return f" {' '.join(text.split())} "


def rows(name: str) -> Any:
    path = next((DATA / name.split("/")[0]).glob(name.split("/")[1]), None)
    if path is None:
        pytest.skip(f"No {name} in {DATA}.")
    return json.loads(gzip.decompress(path.read_bytes()))


def fireact() -> Iterator[tuple[str, list[str], str]]:
    for row in rows("fireact_trajectories/*llama-2-13b*").values():
        question, text = row["traj"].split("### Response:")
        yield question.split("### Instruction:\n")[1], [row["gt"]], text


def search_r1() -> Iterator[tuple[str, list[str], str]]:
    for row in rows("search_r1_rollouts/v0_triviaqa*")[:400]:
        yield row["question"], row["golden_answers"], row["output"]["final_response"]


@pytest.mark.parametrize("source", [fireact, search_r1])
@pytest.mark.parametrize("as_turns", [True, False])
def test_no_search_trajectory_gives_its_answer_away(source: Any, as_turns: bool) -> None:
    format = "react" if source is fireact else "search_r1"
    num_checked = 0
    leaks: list[tuple[str, str]] = []
    for question, answers, text in source():
        trace = parse_trace(text, format) if as_turns else ExpertTrace.from_text(text)
        task = Task(task_id="t", question=question, answers=tuple(answers), domain=Domain.SEARCH)
        scaffold = normalised(mask(trace, task).text)
        # "no" is a word of grammar as well, and what the question says is no secret.
        secrets = {normalised(answer) for answer in answers} - {" no ", "  "}
        secrets = {secret for secret in secrets if secret not in normalised(question)}
        num_checked += bool(secrets)
        leaks += [(secret, scaffold) for secret in secrets if secret in scaffold]
    assert num_checked > 300
    assert leaks == []
