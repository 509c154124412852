"""Math verifier: public cases and labels in, agreement, each disagreement explained, and cost out."""

from __future__ import annotations

import csv
import gzip
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskgym.envs.verdicts import Verdict
from maskgym.envs.verifiers import MathMode, verify_math
from maskgym.envs.verifiers.math_exact import compare
from maskgym.envs.verifiers.math_extraction import extract_answer

from .tables import Table

_UNMARKED = (
    "nothing marks the answer; a number is not taken out of a sentence because it is the last"
)
_COMMA = "a decimal comma; here 1000,99 is two values and 1,222 is thousands"
_CHAIN = "the chain of equations contradicts itself: a hedge"
_UNFINISHED = "the gold is a number and the answer a calculation, which may be the question again"
_ROUNDED = "a decimal of fewer than six digits is not what it is rounded from"
_UNREADABLE = "the answer is LaTeX that is not closed, or joined by marks that mean nothing"
_NOT_JOINED = "words between two boxes: the last one is the answer"
_SAME_SET = "both are the same set, whichever is the gold"

EXPLAINED: Mapping[int, str] = {
    **dict.fromkeys((5, 6, 17), _COMMA),
    **dict.fromkeys((7, 13, 14, 15, 16, 141, 142, 143, 156, 163), _UNMARKED),
    **dict.fromkeys((30, 123, 124), _UNFINISHED),
    **dict.fromkeys((35, 98, 100, 101, 109, 114, 115), _CHAIN),
    **dict.fromkeys((133, 139), _ROUNDED),
    **dict.fromkeys((190, 217), _UNREADABLE),
    **dict.fromkeys((237, 250), _NOT_JOINED),
    32: "a formula over several lines is read, whichever brackets it stands in",
    172: "the last box is the answer, also where a sentence follows",
    187: _SAME_SET,
    202: "two systems of named values against two pairs without names",
    253: "Math-Verify's option to ignore the names of variables; f(x) is not f(y) here",
    263: "the case pins a wrong verdict: 1 - 1/e is not 1 + 1/e",
}
"""Rows of math_verify_cases.jsonl on which strict grading differs from what its tests expect."""

_HENDRYCKS_EXPLAINED = "a plain list is a set of solutions, in any order"
_HEDGED = '"or" in the text: more than one value may be meant'
_FEW_SHOT_GOLDS = ("26", "3000", "25", "12.5", "[2,5)", "24", "16", r"-\frac{2}{3}")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Case:
    answer: str
    gold: str
    expected: bool
    explanation: str = ""


def measure_agreement(data: Path) -> list[Table]:
    """How many cases of each set agree, and those that do not with the reason."""
    summary = Table(
        title="Math verifier: agreement",
        columns=("cases", "mode", "num", "agree", "differ, explained", "differ, unexplained"),
    )
    listed = Table(
        title="Math verifier: each disagreement",
        columns=("cases", "row", "gold", "answer", "expected", "verdict", "because"),
    )
    for name, mode, load in _SETS:
        try:
            cases = list(load(data))
        except FileNotFoundError as error:
            summary.notes.append(f"{name}: no file {error.filename}; left out.")
            continue
        differing = []
        for number, case in enumerate(cases):
            verdict = verify_math(case.answer, [case.gold], mode=mode).verdict
            expected = Verdict.CORRECT if case.expected else Verdict.WRONG
            if verdict is not expected:
                differing.append(case)
                because = case.explanation or "not explained"
                cells = _end(case.gold), _end(case.answer), expected.value, verdict.value
                listed.add(name, number, *cells, because)
        num_explained = sum(bool(case.explanation) for case in differing)
        num_left = len(differing) - num_explained
        summary.add(name, mode, len(cases), len(cases) - len(differing), num_explained, num_left)
    return [summary, listed]


def measure_cost(data: Path, num: int = 1000) -> list[Table]:
    """Time of a grade that is decided exactly, of one by algebra, and of Math-Verify by itself."""
    table = Table(
        title="Math verifier: cost",
        columns=("grades", "num", "ms each"),
        notes=[
            "Wall time of one caller; Math-Verify alone has no time limit that works in threads."
        ],
    )
    try:
        golds = [case.gold for case in _math_golds(data)][: 4 * num]
    except FileNotFoundError as error:
        table.notes.append(f"No file {error.filename}; not measured.")
        return [table]
    pairs = list(zip(golds, golds[7:], strict=False))
    by_algebra = [(a, b) for a, b in pairs if compare(extract_answer(a), b) is None]
    exact = [pair for pair in pairs[:num] if pair not in by_algebra]
    verify_math("x + x", ["2x"])  # starts the processes

    def ours(answer: str, gold: str) -> None:
        verify_math(f"\\boxed{{{answer}}}", [gold])

    table.add("decided exactly", len(exact), _ms_each(ours, exact))
    table.add("decided by Math-Verify in a worker", len(by_algebra), _ms_each(ours, by_algebra))
    table.add("Math-Verify alone, in this thread", num, _ms_each(_math_verify(), pairs[:num]))
    share = len(by_algebra) / max(1, len(pairs))
    table.notes.append(f"Pairs of golds of MATH; {share:.1%} of them need algebra.")
    return [table]


def _ms_each(grade: Callable[[str, str], None], pairs: Sequence[tuple[str, str]]) -> float | None:
    if not pairs:
        return None
    started = time.perf_counter()
    for pair in pairs:
        grade(*pair)
    return 1000 * (time.perf_counter() - started) / len(pairs)


def _math_verify() -> Callable[[str, str], None]:
    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns of having no time limit

    def grade(answer: str, gold: str) -> None:
        parsed = [parse(f"\\boxed{{{text}}}", parsing_timeout=None) for text in (gold, answer)]
        verify(*parsed, timeout_seconds=None)

    return grade


def _math_verify_cases(data: Path) -> Iterator[_Case]:
    path = data / "math_verify_cases" / "math_verify_cases.jsonl"
    with path.open(encoding="utf-8") as file:
        for number, row in enumerate(json.loads(line) for line in file if line.strip()):
            yield _Case(
                answer=row["pred"],
                gold=row["gold"],
                expected=bool(row.get("expected", row.get("result"))),
                explanation=EXPLAINED.get(number, ""),
            )


def _examples(data: Path) -> Iterator[_Case]:
    folder = data / "math_verify_cases"
    with (folder / "model_outputs.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            hedged = _HEDGED if " or " in row["answer"] else ""
            yield _Case(answer=row["answer"], gold=row["gold"], expected=True, explanation=hedged)
    with (folder / "few_shot_answers.csv").open(encoding="utf-8", newline="") as file:
        for row, gold in zip(csv.DictReader(file), _FEW_SHOT_GOLDS, strict=True):
            yield _Case(answer=row["answer"], gold=gold, expected=True)


def _hendrycks_cases(data: Path, explanation: str = "") -> Iterator[_Case]:
    path = data / "hendrycks_equiv_cases" / "is_equiv_cases.jsonl"
    with path.open(encoding="utf-8") as file:
        for row in map(json.loads, file):
            is_list = row["a"].count(",") == row["b"].count(",") == 2
            yield _Case(
                answer=f"\\boxed{{{row['a']}}}",
                gold=row["b"],
                expected=row["equivalent"],
                explanation=explanation if is_list else "",
            )


def _hendrycks_strict(data: Path) -> Iterator[_Case]:
    return _hendrycks_cases(data, _HENDRYCKS_EXPLAINED)


def _gsm8k_solutions(data: Path) -> Iterator[_Case]:
    """Solutions end in "A: 42", from before the data set wrote ``####``."""
    for row in _rows(data / "gsm8k" / "example_model_solutions.jsonl.gz"):
        gold = row["ground_truth"].rpartition("A:")[2].strip().replace(",", "")
        for solution in (value for value in row.values() if isinstance(value, dict)):
            said = solution["solution"].partition("A:")[2].strip()
            yield _Case(answer=f"#### {said}", gold=gold, expected=solution["is_correct"])


def _gsm8k_golds(data: Path) -> Iterator[_Case]:
    for name in ("train", "test"):
        for row in _rows(data / "gsm8k" / f"{name}.jsonl.gz"):
            gold = row["answer"].rpartition("####")[2].strip()
            yield _Case(answer=row["answer"], gold=gold, expected=True)


def _math_golds(data: Path) -> Iterator[_Case]:
    with gzip.open(data / "math_train7474" / "math_train.json.gz", "rt", encoding="utf-8") as file:
        for row in json.load(file):
            if row["answer"]:
                gold = row["answer"]
                yield _Case(answer=f"\\boxed{{{gold}}}", gold=gold, expected=True)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def _end(text: str) -> str:
    return text if len(text) <= 60 else f"... {text[-56:]}"


_SETS: tuple[tuple[str, MathMode, Callable[[Path], Iterator[_Case]]], ...] = (
    ("Math-Verify's tests", MathMode.STRICT, _math_verify_cases),
    ("Math-Verify's examples", MathMode.STRICT, _examples),
    ("Hendrycks' tests", MathMode.SMEPO, _hendrycks_cases),
    ("Hendrycks' tests", MathMode.STRICT, _hendrycks_strict),
    ("GSM8K model solutions", MathMode.GSM8K, _gsm8k_solutions),
    ("GSM8K model solutions", MathMode.STRICT, _gsm8k_solutions),
    ("GSM8K golds and solutions", MathMode.STRICT, _gsm8k_golds),
    ("MATH golds in a box", MathMode.STRICT, _math_golds),
)
