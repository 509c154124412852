"""Target: a task in, a test whether a span or a value is its answer out."""

from .entities import TARGET_DETECTOR
from .givens import canonical_value
from .spans import MaskableTask, Span, SpanKind

_NEVER = frozenset((SpanKind.LABEL, SpanKind.CODE, SpanKind.DOCUMENT, SpanKind.OUTPUT))
_ALWAYS = frozenset((SpanKind.ANSWER, SpanKind.CHOICE))


class Target:
    """What the verifier would pay for, as far as it can be told without the verifier."""

    def __init__(self, task: MaskableTask):
        self._values = {canonical_value(answer) for answer in task.answers} - {""}

    def equals(self, value: str) -> bool:
        """Whether a value has the spelling, the digits or the number words of an answer."""
        return canonical_value(value) in self._values

    def is_shown_by(self, span: Span) -> bool:
        """Whether a span is announced as the answer, mentions it, or has its value."""
        if span.kind in _NEVER:
            return False
        is_named = span.kind in _ALWAYS or span.detector == TARGET_DETECTOR
        return is_named or self.equals(span.value)
