r"""SMEPO's released mask: a trace in, the spans and texts that make the same scaffold out.

For comparison with the published runs only: it writes what mit-han-lab/SMEPO @4c14a0b writes, slips
included, on any text, in linear time where that takes cubic. The slips (`Step 3` turns into
`__STRUCTURAL_NUMBER_[NUMBER]__`, signs go with their numbers, words stay) are kept on purpose. The
released code reads one text; here each turn is one. For searches it released nothing.
"""

import re
from collections.abc import Iterator, Sequence

from .spans import MaskableTask, Span, SpanKind
from .traces import ExpertTrace

_LABEL_WORDS = (
    *("step", "case", "part", "subcase", "problem", "example", "exercise"),
    *("lemma", "theorem", "claim", "stage", "round"),
)
# A label is set aside under a name that ends in a count, the count is then taken for a number of
# the text, and so the label never comes back.
_LABEL_SHOWN = "__STRUCTURAL_NUMBER_[NUMBER]__"
_NUMBER_SHOWN = "[NUMBER]"
_FENCE = "```"

# Possessive throughout, and what may follow a number stands behind it once: no text is read more
# than a fixed number of times. A group ends at the next brace, so scans of groups do not overlap.
_UNSIGNED = r"(?:\d++(?:\.\d++)?+|\.\d++)"
_BRACED = r"\s*+\{[^{}\d]*+\d[^{}]*+\}"
_BRACKETED = r"\s*+\[[^\[\]\d]*+\d[^\[\]]*+\]"
_POWER = r"\s*+\\times\s*+10\s*+\^\s*+\{?+[+-]?+\d++\}?+"
_TAIL = rf"(?:{_POWER}|\s*+/\s*+[+-]?+{_UNSIGNED}|\s*+%|[eE][+-]?+\d++)?+"
_MASKED = re.compile(
    rf"(?P<label>\b(?i:{'|'.join(_LABEL_WORDS)})\s++\d++\b)"
    rf"|[+-]?+{_UNSIGNED}{_TAIL}"
    rf"|\\(?:[dDtT]?+frac{_BRACED}{_BRACED}|sqrt(?:{_BRACKETED})?+{_BRACED})"
)


def smepo_compat(trace: ExpertTrace, spans: Sequence[Span], task: MaskableTask) -> Sequence[Span]:
    """Hides what the released masker hides, and writes what it writes.

    Code tasks lose their closed fences, searches nothing, all others their numbers. `spans` are
    not looked at: the released masker has its own idea of a number.
    """
    if task.domain == "search":
        return ()
    find = _fenced_blocks if task.domain == "code" else _numbers
    return [span for index, turn in enumerate(trace.turns) for span in find(turn.text, index)]


smepo_compat.is_verbatim = True  # type: ignore[attr-defined]  # mask() escapes nothing beside it


def _numbers(text: str, turn: int) -> Iterator[Span]:
    for match in _MASKED.finditer(text):
        is_label = match.lastgroup == "label"
        yield Span(
            turn=turn,
            start=match.start(),
            end=match.end(),
            kind=SpanKind.NUMBER,
            value=match[0],
            detector="smepo_compat",
            replacement=_LABEL_SHOWN if is_label else _NUMBER_SHOWN,
        )


def _fenced_blocks(text: str, turn: int) -> Iterator[Span]:
    """Each fence with a plain info string, up to the next three backticks wherever they stand."""
    at = 0
    while (start := text.find(_FENCE, at)) >= 0:
        at = start + 1
        info_start = start + len(_FENCE)
        backtick = text.find("`", info_start)
        if backtick < 0:
            return  # nothing closes from here on
        line_end = text.find("\n", info_start, backtick)
        if line_end < 0:
            continue
        close = text.find(_FENCE, line_end + 1)
        if close < 0:
            return
        at = close + len(_FENCE)
        info = text[info_start:line_end].strip()
        yield Span(
            turn=turn,
            start=start,
            end=at,
            kind=SpanKind.CODE,
            value=text[start:at],
            detector="smepo_compat",
            replacement=f"{_FENCE}{info}\n[CODE]\n{_FENCE}",
        )
