"""Choice detector: a turn of a multiple-choice task in, the letters given as its answer out."""

import re
from collections.abc import Iterator

from .spans import MaskableTask, Span, SpanKind
from .traces import TraceTurn

_OPTIONS = re.compile(r"(?:^|[\s{*])\(?A[).:][\s\S]{1,4000}?(?:^|[\s{*])\(?B[).:]")
_LETTER_ANSWER = re.compile(r"\s*\$?(?:\\text(?:bf)?\{)?\(?([A-J])\)?\.?\}?\$?\s*")
_OPEN = r"(?:\$|\*\*|\\boxed\{|\\text(?:bf)?\{|\()*+"
_WORD_BEFORE = re.compile(
    r"\b(?:options?|choices?|answers?|letter|choose|select|pick)"
    rf"(?:[ \t]+(?:is|are|choice|option|letter|would be|must be|should be))?[ \t]*:?[ \t]*{_OPEN}"
    r"([A-J])(?![\w'])(?! ?(?:[-+/=^<>(]|\*(?!\*)))",
    re.IGNORECASE,
)
_BRACKETED = re.compile(
    r"\((?<![\w)]\()([A-J])\)(?=[ \t]*(?:[.,;:!?$}*]|\n|$)| is (?:correct|right|the)|,| and \()"
)
CHOICE_TRIGGERS = (
    *("option", "choice", "answer", "letter", "choose", "select", "pick"),
    *(f"({letter})" for letter in "abcdefghij"),
)
"""One of these is in each text (in lower case) that has a choice."""


def find_choices(turn: TraceTurn, task: MaskableTask) -> Iterator[Span]:
    """The letter of "(B)", "option B" or "the answer is C", where it says the answer.

    Only for a task that asks for a letter: its answer is one, or its question lists the options. In
    others a letter is a name ("Option A costs $5"), and before its option it is a marker ("(A) 5").
    """
    text = turn.text
    if task.domain == "code" or not _is_multiple_choice(task):
        return
    found = {match.span(1) for match in _BRACKETED.finditer(text)}
    for match in _WORD_BEFORE.finditer(text):
        start, end = match.span(1)
        is_article = match[1] in ("A", "I") and text[end : end + 1] == " "
        if match[1].isupper() and (not is_article or text[start - 1] == "("):
            found.add((start, end))
    for start, end in sorted(found):
        value = text[start:end]
        yield Span(start=start, end=end, kind=SpanKind.CHOICE, value=value, detector="choices")


def _is_multiple_choice(task: MaskableTask) -> bool:
    if any(len(answer) < 20 and _LETTER_ANSWER.fullmatch(answer) for answer in task.answers):
        return True
    question = task.question
    return "B" in question and "A" in question and bool(_OPTIONS.search(question))
