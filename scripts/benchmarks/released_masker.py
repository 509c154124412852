r"""Released masker: math or code text in, the text as the released SMEPO code masks it out.

Either the user's own copy of the released file, or the behaviour it documents, written here as
grammar: structural labels are set aside as ``__STRUCTURAL_NUMBER_k__``, one pass turns numbers into
``[NUMBER]`` (also those of the keys, so the keys are never found again), and fenced blocks become
``[CODE]``. Its flaws are kept, cubic time among them, as they are what is compared against.
"""

from __future__ import annotations

import importlib.util
import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_STRUCTURE = (
    *("step", "case", "part", "subcase", "problem", "example", "exercise"),
    *("lemma", "theorem", "claim", "stage", "round"),
)
_LABEL = re.compile(rf"\b(?:{'|'.join(_STRUCTURE)})\s+\d+\b", re.IGNORECASE)

_SIGN = r"[+-]?"
_REAL = r"(?:\d+\.\d+|\d+|\.\d+)"


def _group(left: str, right: str) -> str:
    """A group that holds a digit and no further brace or bracket, scanned lazily."""
    other = rf"[^{re.escape(left + right)}]*?"
    return rf"\s*{re.escape(left)}{other}\d{other}{re.escape(right)}"


_SIGNED = rf"{_SIGN}{_REAL}"
_NUMBER = re.compile(
    "|".join(
        (
            rf"\\[dtDT]?frac{_group('{', '}')}{_group('{', '}')}",
            rf"\\sqrt(?:{_group('[', ']')})?{_group('{', '}')}",
            rf"{_SIGNED}\s*\\times\s*10\s*\^\s*\{{?{_SIGN}\d+\}}?",
            rf"{_SIGNED}\s*/\s*{_SIGNED}",
            rf"{_SIGNED}\s*%",
            rf"{_SIGNED}[eE]{_SIGN}\d+",
            rf"{_SIGN}(?:\d+\.\d+|\.\d+)",
            rf"{_SIGN}\d+",
        )
    )
)
_FENCED = re.compile(r"```([^\n`]*)\n.*?```", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class ReleasedMasker:
    """The two functions of the released masker, and where they come from."""

    math: Callable[[str], str]
    code: Callable[[str], str]
    source: str

    def mask(self, text: str, domain: str) -> str:
        """A text masked as its domain is; search text as it is: there the release masks nothing."""
        if domain == "code":
            return self.code(text)
        return self.math(text) if domain == "math" else text


def mask_math(text: str) -> str:
    """Numbers hidden, structural labels set aside and, for the flaw described above, not restored."""
    count = itertools.count()
    kept: dict[str, str] = {}

    def set_aside(match: re.Match[str]) -> str:
        key = f"__STRUCTURAL_NUMBER_{next(count)}__"
        kept[key] = match[0]
        return key

    text = _NUMBER.sub("[NUMBER]", _LABEL.sub(set_aside, text))
    for key, label in kept.items():  # quadratic, as there
        text = text.replace(key, label)
    return text


def mask_code(text: str) -> str:
    """Contents of backtick fences hidden, from each opening one to the next three backticks."""
    return _FENCED.sub(lambda fence: f"```{fence[1].strip()}\n[CODE]\n```", text)


RELEASED_BEHAVIOUR = ReleasedMasker(
    math=mask_math, code=mask_code, source="its documented behaviour, written anew"
)


def load_released_masker(path: Path) -> ReleasedMasker:
    """The user's own copy of the released file, which is run as it is.

    Raises:
        ValueError: If the file is missing or lacks one of the two functions.
    """
    names = ("mask_math_teacher_trace", "mask_code_teacher_trace")
    spec = importlib.util.spec_from_file_location("released_masker_copy", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise ValueError(f"{path} is no Python file; give the released semantic_masking.py.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    missing = [name for name in names if not callable(getattr(module, name, None))]
    if missing:
        raise ValueError(f"{path} has no function {missing[0]}; give the released file.")
    return ReleasedMasker(
        math=getattr(module, names[0]), code=getattr(module, names[1]), source=f"{path.name} (copy)"
    )
