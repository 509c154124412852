r"""In: the text of a solution. Out: its final answer, as written.

What is marked as the answer counts: the last box, or what follows the last ``####``; without
either, what follows the last "answer is", or the only formula of the text; else all of it. Boxes
joined by nothing but "and", "or" or commas are one answer of several values, so that
``\boxed{42} or \boxed{43}`` is as much a hedge as ``\boxed{42, 43}``.
"""

from __future__ import annotations

import re

_MAX_SEARCHED = 100_000  # characters at the end of a text in which a box is looked for
_MAX_BOXES = 20

_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?=\{|[^\s{a-zA-Z])")
_BETWEEN_BOXES = re.compile(
    r"(?:[\s$,;&.]|[a-zA-Z](?:_\{?\w\}?)?\s*=|\\[()\[\]]|\\q?quad|\\[,;: ]"
    r"|\band\b|\bor\b|\\text\{\s*(?:and|or)\s*\})*",
    re.I,
)
_LEAD = re.compile(r"(?:\banswer\s*(?:\*\*)?\s*(?:is|:|=)|\banswer\*\*:)\s*:?\s*(?:\*\*)?", re.I)
_SENTENCE_END = re.compile(r"\n|[.!?]\s+(?=[A-Z])|[.!?]?\s*(?:$|<\|)")
_HOPE = re.compile(r"[.,]?\s*I hope it is correct\.?\s*$", re.I)
_FORMULA = re.compile(
    r"\$\$(.+?)\$\$|(?<![\\\d])\$([^$\n]+?)(?<!\\)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.S
)
_HEDGE = re.compile(r"\b(?:not|or|and|either|maybe|perhaps|but|never|except|unless)\b|n't\b", re.I)
_PERCENT_AFTER = re.compile(r"\s*(\\?%|percent\b|pct\b)", re.I)
_MAX_UNMARKED = 2_000


def extract_answer(text: str) -> str:
    """The final answer in a solution; "" if there is none, as in an open box or after `</think>`."""
    text = text.rpartition("</think>")[2][-_MAX_SEARCHED:]
    boxed = _boxed(text) if "\\boxed" in text or "\\fbox" in text else None
    if boxed is not None:
        return boxed
    _, marker, after = text.rpartition("####")
    if marker:
        return after.strip().split("\n")[0].strip()
    return _unmarked(text.strip())


def _boxed(text: str) -> str | None:
    """What the last box holds, with the boxes that are joined to it; None without a box."""
    boxes = list(_BOX.finditer(text))[-_MAX_BOXES:]
    if not boxes:
        return None
    contents: list[str] = []
    start = len(text)
    for box in reversed(boxes):
        content, end = _braced(text, box.end())
        if contents and not _BETWEEN_BOXES.fullmatch(text[end:start]):
            break
        if not content:
            return (contents and ", ".join(reversed(contents))) or ""
        contents.append(content)
        start = box.start()
    percent = _PERCENT_AFTER.match(text, _braced(text, boxes[-1].end())[1])
    if len(contents) == 1 and percent:
        contents[0] += "\\%"
    return ", ".join(reversed(contents))


def _braced(text: str, start: int) -> tuple[str, int]:
    """What the brace at `start` holds, and where it ends; without a brace the next token."""
    if text[start] != "{":
        token = text[start:].split(maxsplit=1)[0]
        return token.strip("$."), start + len(token)
    depth = 0
    for i in range(start, len(text)):
        if text[i] in "{}" and text[i - 1] != "\\":
            depth += 1 if text[i] == "{" else -1
            if depth == 0:
                return text[start + 1 : i].strip(), i + 1
    return "", len(text)


def _unmarked(text: str) -> str:
    said = _said(text) if any(map(str.isalpha, text)) else text
    if "\n" in said.strip() and "\\begin" not in said:  # each line is an answer: a list, or a hedge
        return ", ".join(line.strip() for line in said.splitlines() if line.strip())
    return said


def _said(text: str) -> str:
    """The sentence after "answer is", or the only formula; all of the text where neither is clear."""
    leads = list(_LEAD.finditer(text))
    if leads:
        text = _HOPE.sub("", text[leads[-1].end() :][:_MAX_UNMARKED])
        end = _SENTENCE_END.search(text)
        text = text[: end.start()] if end and text[: end.start()].strip() else text
        text = text.strip()
        if not _HEDGE.search(text):
            text = text.rpartition(" is ")[2].strip()
    if len(text) > _MAX_UNMARKED:
        return text
    formulas = list(_FORMULA.finditer(text))
    if len(formulas) != 1:
        return text
    words = text[: formulas[0].start()] + " " + text[formulas[0].end() :]
    has_more = _HEDGE.search(words) or any(map(str.isdigit, words)) or not words.strip()
    if has_more:
        return text
    formula = next(group for group in formulas[0].groups() if group)
    is_percent = _PERCENT_AFTER.match(text, formulas[0].end())
    return f"{formula.strip()}\\%" if is_percent else formula
