"""In: rows with a model's response. Out: the same rows, each with the grade of its response."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from maskgym.envs import Domain, Grade, Verdict, outcome_reward
from maskgym.envs.grading import grade_response
from maskgym.envs.mappings import ColumnMapping, find
from maskgym.envs.row_forms import task_from_row
from maskgym.envs.sandbox import LocalSandbox, Sandbox
from maskgym.retrieval.rows import LocatedRow

ADDED_FIELD = "grade"


@dataclass(kw_only=True, slots=True)
class GradedRows:
    """What became of some rows."""

    lines: bytes = b""
    """JSON lines, one a row, in the order of the input."""
    verdicts: Counter[str] = field(default_factory=Counter)
    """How many responses got each verdict."""
    problems: list[str] = field(default_factory=list)
    """Rows that could not be graded, each with its place and what is wrong."""


@dataclass(frozen=True, kw_only=True)
class RowGrader:
    """All that a worker has to know; called with some rows after the other."""

    domain: Domain
    mapping: ColumnMapping
    response: str
    """The column of the response; alternatives by "|"."""
    mode: str
    tier: str
    """What the sandbox must reach, for code."""
    skips_bad_rows: bool = False

    def __call__(self, rows: Sequence[LocatedRow]) -> GradedRows:
        """Grades the rows.

        Raises:
            ValueError: At a bad row, unless those are skipped; names the row.
        """
        graded = GradedRows()
        for located in rows:
            try:
                self._add(located, graded)
            except ValueError as error:
                message = f"{located.where}: {error}"
                if not self.skips_bad_rows:
                    raise ValueError(message) from None
                graded.problems.append(message)
        return graded

    def _add(self, located: LocatedRow, graded: GradedRows) -> None:
        task = task_from_row(
            located.row,
            domain=self.domain,
            mapping=self.mapping,
            fallback_id=f"row-{located.number}",
        )
        response = find(located.row, self.response)
        if response is None:
            raise ValueError(
                f"no response: looked for {self.response.replace('|', ' or ')} among the columns "
                f"{', '.join(located.row)}. Name it with --response COLUMN."
            )
        if isinstance(response, list):
            grade: Any = [self._graded(task, each, graded) for each in response]
        else:
            grade = self._graded(task, response, graded)
        row = {**located.row, ADDED_FIELD: {"row": located.number, **_columns(grade)}}
        graded.lines += json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"

    def _graded(self, task: Any, response: Any, graded: GradedRows) -> Grade:
        if not isinstance(response, str):
            raise ValueError(f"the response is {response!r:.60}; it must be text, or a list of it.")
        sandbox = _sandbox(self.tier) if self.domain is Domain.CODE else None
        grade = grade_response(task, response, mode=self.mode, sandbox=sandbox)
        graded.verdicts[grade.verdict.value] += 1
        return grade


def _columns(grade: Grade | list[Grade]) -> dict[str, Any]:
    """Verdict, reward and reason; a list of each where there were several responses."""
    if isinstance(grade, Grade):
        is_known = grade.verdict is not Verdict.VERIFIER_ERROR
        reward = outcome_reward(grade.verdict) if is_known else None
        return {"verdict": grade.verdict.value, "reward": reward, "reason": grade.reason}
    each = [_columns(one) for one in grade]
    return {name: [one[name] for one in each] for name in ("verdict", "reward", "reason")}


def accuracy(verdicts: Counter[str]) -> float:
    """Share of correct ones among those with a verdict; NaN where there is none."""
    num_graded = verdicts["correct"] + verdicts["wrong"]
    return verdicts["correct"] / num_graded if num_graded else math.nan


@lru_cache(maxsize=1)
def _sandbox(tier: str) -> Sandbox:
    return LocalSandbox(require=tier)  # one a process, ended with it
