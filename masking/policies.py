"""Mask policies: a trace and its spans in, the spans to hide out; a registry by name."""

import difflib
import functools
import inspect
import random
import re
from collections.abc import Callable, Sequence

from .critical import Overlaps, find_critical
from .replay import statements_giving_target
from .smepo_compat import smepo_compat
from .spans import MaskableTask, Span, SpanKind, merge_overlaps
from .targets import Target
from .traces import ExpertTrace

MaskPolicy = Callable[[ExpertTrace, Sequence[Span], MaskableTask], Sequence[Span]]
"""Chooses what to hide; may return spans of its own. Labels are never hidden.

A policy with an attribute `is_verbatim = True` wants its replacements and everything beside them
written as they are: nothing of the source is escaped.
"""

_LABEL = SpanKind.LABEL
_TOKEN = re.compile(r"\S{1,40}")  # so that a text without spaces is not one word
_CALL = re.compile(r"\s*([A-Za-z_][\w.-]*)\s*(?:\(([^()]*)\))?\s*")


def none(trace: ExpertTrace, spans: Sequence[Span], task: MaskableTask) -> Sequence[Span]:
    """Hides nothing: the full trace."""
    return ()


def all_spans(trace: ExpertTrace, spans: Sequence[Span], task: MaskableTask) -> Sequence[Span]:
    """Hides every span that is not a label."""
    return [span for span in spans if span[2] is not _LABEL]


def answer_only(trace: ExpertTrace, spans: Sequence[Span], task: MaskableTask) -> Sequence[Span]:
    """Hides the target wherever it stands; in a code task, the last program.

    Teaches little by itself: the step before the answer stays in sight.
    """
    target = Target(task)
    hidden = [span for span in spans if target.is_shown_by(span)]
    programs = [span for span in spans if span.kind is SpanKind.CODE]
    if task.domain == "code" and programs:
        hidden.append(programs[-1])
    return hidden


def all_keep_given(trace: ExpertTrace, spans: Sequence[Span], task: MaskableTask) -> Sequence[Span]:
    """Hides all but what stands in the question; what shows the target is hidden even then."""
    target = Target(task)
    return [
        span
        for span in spans
        if span.kind is not SpanKind.LABEL and (not span.is_given or target.is_shown_by(span))
    ]


def critical(trace: ExpertTrace, spans: Sequence[Span], task: MaskableTask) -> Sequence[Span]:
    """Hides what shows the target and all that it was computed or found by, given or not.

    See `critical.find_critical`; where the path is not known, every value is hidden.
    """
    shown, on_the_way = find_critical(trace, spans, task)
    return [*shown, *on_the_way]


def critical_keep_given(
    trace: ExpertTrace, spans: Sequence[Span], task: MaskableTask
) -> Sequence[Span]:
    """Hides what `critical` hides but for what stands in the question and is not the target.

    Where givens alone would compute the target, as in ``400 / 4 = [NUMBER]``, they are hidden too.
    """
    shown, on_the_way = find_critical(trace, spans, task)
    hidden = [*shown, *(span for span in on_the_way if not span.is_given)]
    telling = Overlaps(
        (one.turn, one.start, one.end)
        for one in statements_giving_target(trace, spans, hidden, task)
    )
    return [*hidden, *(span for span in on_the_way if span.is_given and telling.touch(span))]


def prefix(
    trace: ExpertTrace, spans: Sequence[Span], task: MaskableTask, ratio: float
) -> Sequence[Span]:
    """Keeps the first `ratio` of the trace's characters up to a line's end, nothing masked in it.

    A trace without a line break in that part is cut at the character.
    """
    if not 0 <= ratio <= 1:
        raise ValueError(f"prefix({ratio}) keeps a share of the trace; give a number from 0 to 1.")
    text = trace.text
    cut = int(len(text) * ratio)
    if cut < len(text):
        line_break = text.rfind("\n", 0, cut + 1)
        cut = line_break if line_break >= 0 else cut
    hidden: list[Span] = []
    for index, turn in enumerate(trace.turns):
        start = min(max(cut, 0), len(turn.text))
        if start < len(turn.text):
            value = turn.text[start:]
            end = len(turn.text)
            hidden.append(Span(turn=index, start=start, end=end, kind=SpanKind.CUT, value=value))
        cut -= len(turn.text) + 1
    return hidden


def masked_prefix(
    trace: ExpertTrace, spans: Sequence[Span], task: MaskableTask, ratio: float
) -> Sequence[Span]:
    """Keeps the first `ratio` of the trace as `prefix` does, and masks that as `all` does.

    The ladder of GHPO (arXiv:2507.10628) over the masked trace, which SMEPO's paper combines.
    """
    return [*all_spans(trace, spans, task), *prefix(trace, spans, task, ratio)]


def random_matched(
    trace: ExpertTrace, spans: Sequence[Span], task: MaskableTask, seed: int = 0
) -> Sequence[Span]:
    """Hides as many characters as `all` would, in words drawn at random: the control for it.

    Seeded by `seed` and the task id. Whole words only (a very long one in pieces), so the count may
    fall short by less than the shortest word that is left.
    """
    texts = [turn.text for turn in trace.turns]
    budget = sum(span.end - span.start for span in merge_overlaps(spans, texts))
    words = [
        Span(turn=index, start=match.start(), end=match.end(), kind=SpanKind.WORD, value=match[0])
        for index, text in enumerate(texts)
        for match in _TOKEN.finditer(text)
    ]
    random.Random(f"{seed}:{task.task_id}").shuffle(words)
    hidden: list[Span] = []
    for word in words:
        if len(word.value) <= budget:
            hidden.append(word)
            budget -= len(word.value)
    return hidden


POLICIES: dict[str, Callable[..., Sequence[Span]]] = {
    "none": none,
    "all": all_spans,
    "answer_only": answer_only,
    "critical": critical,
    "critical_keep_given": critical_keep_given,
    "all_keep_given": all_keep_given,
    "prefix": prefix,
    "masked_prefix": masked_prefix,
    "random_matched": random_matched,
    "smepo_compat": smepo_compat,
}
"""All policies by name; those with further parameters take them in brackets: `prefix(0.5)`."""


_NOT_READING_GIVENS = frozenset(
    (none, all_spans, answer_only, critical, prefix, masked_prefix, random_matched, smepo_compat)
)


def reads_givens(policy: Callable[..., Sequence[Span]]) -> bool:
    """Whether a policy may look at `Span.is_given`; one that is not ours may."""
    return getattr(policy, "func", policy) not in _NOT_READING_GIVENS


_ESCALATION = {
    "answer_only": ("critical_keep_given", "critical", "all"),
    "critical_keep_given": ("critical", "all"),
    "all": (),
}


def escalation(name: str) -> tuple[str, ...]:
    """The policies to try next, in order, when this one gives too much away.

    ``escalation("critical_keep_given")`` is ``("critical", "all")``; a policy not known here, also
    one with an argument, goes straight to "all", behind which there is nothing.
    """
    match = _CALL.fullmatch(name)
    return _ESCALATION.get(match[1] if match else name, ("all",))


def register_policy(
    name: str, policy: Callable[..., Sequence[Span]]
) -> Callable[..., Sequence[Span]]:
    """Adds a policy, `(trace, spans, task) -> hidden spans`, and returns it.

    Parameters behind those three are numbers that its name takes in brackets.

    Raises:
        ValueError: If the name is taken or cannot be written in a policy string.
    """
    if name in POLICIES:
        raise ValueError(f"There is a policy {name!r} already; choose another name.")
    match = _CALL.fullmatch(name)
    if match is None or match[1] != name:
        raise ValueError(f"{name!r} is no policy name; use letters, digits, '_', '-' and '.'.")
    POLICIES[name] = policy
    return policy


def policy_by_name(name: str) -> MaskPolicy:
    """The policy written as `all` or `prefix(0.5)`.

    Raises:
        LookupError: If there is no such policy.
        ValueError: If its argument is missing, superfluous or no number.
    """
    match = _CALL.fullmatch(name)
    policy = POLICIES.get(match[1]) if match else None
    if match is None or policy is None:
        wanted = match[1] if match else name.partition("(")[0].strip()
        nearest = difflib.get_close_matches(wanted, POLICIES, n=1, cutoff=0.0)[0]
        known = ", ".join(POLICIES)
        raise LookupError(f"No mask policy {name!r}. Did you mean {nearest!r}? There are: {known}.")
    arguments = [_number(part, name) for part in (match[2] or "").split(",") if part.strip()]
    further = list(inspect.signature(policy).parameters.values())[3:]
    num_required = sum(parameter.default is parameter.empty for parameter in further)
    if not num_required <= len(arguments) <= len(further):
        form = f"{match[1]}({', '.join(parameter.name for parameter in further)})"
        form = form if further else match[1]
        raise ValueError(f"Mask policy {name!r} has the wrong number of arguments; write {form}.")
    if not further:
        return policy
    names = [parameter.name for parameter in further]
    return functools.partial(policy, **dict(zip(names, arguments, strict=False)))


def _number(text: str, policy: str) -> float | int:
    try:
        return int(text) if text.strip().lstrip("+-").isdigit() else float(text)
    except ValueError:
        raise ValueError(
            f"Mask policy {policy!r}: {text.strip()!r} is not a number; write for example "
            "prefix(0.5) or random_matched(7)."
        ) from None
