"""In: two answers in LaTeX. Out: whether Math-Verify finds them equal; runs in a worker.

Nothing here bounds time or memory: the worker pool does. Imports nothing of the package, since the
process that loads it would then load all of it.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from math_verify import LatexExtractionConfig, parse, verify

# Only LaTeX: the other extraction takes any number out of a sentence, "not 42" for 42.
_CONFIG = [LatexExtractionConfig()]


def warm() -> None:
    """Builds parsers and caches once, before workers are forked."""
    for gold, said in (("x^2-1", "(x-1)(x+1)"), (r"\frac{1}{2}", "0.5"), (r"\{1,2\}", "[1,2]")):
        answer({"gold": gold, "said": said}, lambda _: None)


def answer(request: dict[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    """Whether `said` equals `gold`; says when it is done with the gold."""
    gold = _gold(request["gold"])
    say("answer")
    said = _parsed(request["said"])
    # An interval is the same set as its inequality, whichever of them is the gold.
    is_equal = verify(gold, said, allow_set_relation_comp=True, timeout_seconds=None)
    return {"is_equal": bool(is_equal)}


@lru_cache(maxsize=100)  # a group of answers shares its gold
def _gold(text: str) -> list[Any]:
    """The gold, evaluated once for nothing: if that takes for ever, no answer is to blame."""
    gold = _parsed(text)
    verify(gold, _parsed("1"), timeout_seconds=None)
    return gold


def _parsed(text: str) -> list[Any]:
    parsed: list[Any] = parse(f"\\boxed{{{text}}}", extraction_config=_CONFIG, parsing_timeout=None)
    return parsed
