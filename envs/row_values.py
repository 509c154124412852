"""In: one value of a row. Out: it as a task needs it, or an error that names the field."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .tasks import Domain

_LEVEL = re.compile(r"(?:level )?(\d+)", re.IGNORECASE)


def read_question(value: object) -> str:
    """Text, or the last user message of a chat list."""
    if isinstance(value, list):
        users = [m for m in value if isinstance(m, Mapping) and m.get("role") == "user"]
        value = users[-1].get("content") if users else None
    text = read_text(value, "question")
    if not text.strip():
        raise ValueError("question: it is empty.")
    return text


def read_answers(value: object) -> tuple[str, ...]:
    """One answer or several, each of which is right; blank ones are left out."""
    if isinstance(value, Mapping):
        value = or_default(value.get("target"), value.get("ground_truth"))
    if isinstance(value, bool) or value is None or isinstance(value, Mapping):
        raise ValueError(f"answers: expected text, a number or a list, found {value!r}.")
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a column of numbers holds 27.0 where 27 is meant
    answers = (
        (str(value),) if isinstance(value, str | int | float) else read_strings(value, "answers")
    )
    answers = tuple(answer for answer in answers if answer.strip())
    if not answers:
        raise ValueError(
            "answers: there is none, so nothing could ever be right. Mend the row, or leave bad rows "
            'out: on_bad_row="skip", --skip-bad-rows.'
        )
    return answers


def or_default(value: Any, default: Any) -> Any:
    """`value`, or `default` where it is missing."""
    return default if value is None else value


def read_text(value: object, field: str) -> str:
    """Text, and nothing else."""
    if not isinstance(value, str):
        raise ValueError(f"{field}: expected text, found {type(value).__name__} {value!r:.60}.")
    return value


def read_level(value: object) -> int:
    """A number, or text such as "Level 5" of MATH."""
    found = _LEVEL.fullmatch(value.strip()) if isinstance(value, str) else None
    return int(found[1]) if found else read_whole(value, "level")


def read_whole(value: object, field: str) -> int:
    """A whole number, and nothing else."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{field}: expected a whole number, found {value!r}.")
    return value


def read_strings(value: object, field: str) -> tuple[str, ...]:
    """Text or a list of it; numbers in the list become text."""
    values = [value] if isinstance(value, str) else value
    if hasattr(values, "tolist"):  # a column of a Parquet reader
        values = values.tolist()
    if not isinstance(values, list | tuple):
        raise ValueError(f"{field}: expected text or a list, found {value!r:.60}.")
    if any(isinstance(item, bool) or not isinstance(item, str | int | float) for item in values):
        raise ValueError(f"{field}: expected a list of text, found {value!r:.60}.")
    return tuple(str(item) for item in values)


def expect_domain(domain: Domain, needed: Domain, name: str) -> None:
    """Refuses rows of one domain that are to be read as those of another."""
    if domain is not needed:
        raise ValueError(f"domain: {name} rows are {needed.value} tasks, not {domain.value}.")
