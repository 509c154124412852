"""In: a model's text. Out: the program in it, by our rule or by a peer's."""

from __future__ import annotations

import ast
import re

_FENCE = re.compile(
    r"^[ \t]*(?P<mark>`{3,}|~{3,})[^\n`]*\n(?P<code>.*?)(?:^[ \t]*(?P=mark)[ \t]*$|\Z)", re.M | re.S
)
_LIVECODEBENCH_FENCE = re.compile(r"```(?:\w+)?\n(.*?)```", re.S)


def extract_code(
    text: str, *, names: set[str] | frozenset[str] = frozenset(), prompt: str = ""
) -> str:
    """The program in a model's text; "" if there is none.

    The last fenced block that defines one of `names` counts, since a usage example often follows
    the solution; without such a block, the last one. Text without a fence counts if it is Python,
    or if it continues `prompt`.
    """
    text = text.rpartition("</think>")[2].replace("\r\n", "\n")
    blocks = [match["code"] for match in _FENCE.finditer(text)]
    defining = [block for block in blocks if any(_defines(block, name) for name in names)]
    if blocks:
        program = (defining or blocks)[-1]
        needs_prompt = prompt and names and not defining
        return prompt + program if needs_prompt and _parses(prompt + program) else program
    if _parses(text) and (not prompt or not names or any(_defines(text, name) for name in names)):
        return text
    return prompt + text if prompt and _parses(prompt + text) else ""


def extract_as_livecodebench(text: str) -> str:
    """The last closed block of backticks, whatever it holds; "" where there is none.

    Source: https://github.com/NovaSky-AI/SkyRL, skyrl-gym/skyrl_gym/envs/lcb/livecodebench.py.
    """
    blocks: list[str] = _LIVECODEBENCH_FENCE.findall(text)
    return blocks[-1].strip() if blocks else ""


def extract_as_prime(text: str) -> str:
    """What follows the last "```python", up to the next fence; all of a text without one.

    Source: https://github.com/volcengine/verl, verl/utils/reward_score/prime_code/__init__.py.
    """
    return text.rpartition("```python")[2].partition("```")[0]


def _defines(code: str, name: str) -> bool:
    name = re.escape(name)
    pattern = rf"^\s*(?:async\s+)?(?:def|class)\s+{name}\b|^{name}\s*="
    return re.search(pattern, code, re.M) is not None


def _parses(code: str) -> bool:
    try:
        ast.parse(code)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return bool(code.strip())
