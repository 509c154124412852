"""mask(): an expert trace, its task and a policy in, the scaffold with its audit out."""

from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache

from .audit import LeakLevel
from .checks import Checks
from .detectors import find_unmarked
from .givens import canonical_value, givens_of
from .policies import POLICIES, MaskPolicy, escalation, policy_by_name, reads_givens
from .render import RenderConfig, placeholder_name, render_actions
from .scaffold import AuditInput, Scaffold
from .spans import MaskableTask, Span, SpanKind, check_span, merge_overlaps
from .targets import Target
from .traces import ExpertTrace, TurnKind

_DEFAULT_RENDER = RenderConfig()
_WITHOUT_QUERIES = ("queries",)
_OURS = __name__.rpartition(".")[0] + "."


def mask(
    trace: ExpertTrace | str,
    task: MaskableTask,
    policy: str | MaskPolicy = "all",
    *,
    render: RenderConfig | None = None,
    checks: Checks | None = None,
    max_leak: LeakLevel | None = None,
) -> Scaffold:
    """The scaffold of a trace: what `policy` hides is replaced by placeholders.

    ``mask("Step 1: 3+4=7", task).text`` is ``"Step 1: [NUMBER]+[NUMBER]=[NUMBER]"``.

    Args:
        trace: A trace, or a solution as text.
        task: Its task; tells the target, the given values and which detectors apply.
        policy: Name of a policy, such as "all" or "prefix(0.5)", or a policy itself.
        render: How the result is written.
        checks: The environment's verifier: finds the target in other forms, and audits.
        max_leak: The worst leak allowed; None for any. A scaffold that leaks more is made again
            with the next stricter policy, and dropped (left empty) if none is strict enough. Each
            try is audited.

    Raises:
        LookupError: If there is no policy of this name.
        ValueError: If a policy or detector gives spans that do not fit the trace.
    """
    config = render or _DEFAULT_RENDER
    if isinstance(trace, str):
        trace = ExpertTrace.from_text(trace)
    elif config.tool_results == "drop":
        trace = _without_results(trace)
    choose = _policy(policy)
    name = policy if isinstance(policy, str) else getattr(policy, "__name__", type(policy).__name__)
    left_out = _WITHOUT_QUERIES if config.queries == "entities" else ()
    spans = find_unmarked(trace, task, checks, without=left_out)
    scaffold = _masked(trace, spans, task, choose, config, checks, name, name)
    if max_leak is None or scaffold.audit.level <= max_leak:
        return scaffold
    for stricter in escalation(name):
        choose = _policy(stricter)
        scaffold = _masked(trace, spans, task, choose, config, checks, stricter, name)
        if scaffold.audit.level <= max_leak:
            return scaffold
    return _dropped(trace, spans, task, name)


def _masked(
    trace: ExpertTrace,
    spans: Sequence[Span],
    task: MaskableTask,
    choose: MaskPolicy,
    config: RenderConfig,
    checks: Checks | None,
    name: str,
    requested: str,
) -> Scaffold:
    """The scaffold under one policy."""
    texts = [turn.text for turn in trace.turns]
    if reads_givens(choose):
        spans = givens_of(task.question).mark_all(spans)
    chosen = choose(trace, spans, task)
    function = getattr(choose, "func", choose)
    if not str(getattr(function, "__module__", "")).startswith(_OURS):
        for span in chosen:
            check_span(span, texts, f"Policy {name!r}")
    if config.tool_results == "keep":
        chosen = _without_kept(chosen, spans, trace)
    hidden = merge_overlaps(chosen, texts)
    if config.indexed:
        hidden = _grouped(hidden, task)
    if getattr(function, "is_verbatim", False):
        config = replace(config, escape_literals=False)
    actions = list(render_actions(trace, hidden, config))
    while actions and not actions[-1]:
        del actions[-1]
    return Scaffold(
        text="\n".join(action for action in actions if action),
        turns=tuple(actions),
        hidden=hidden,
        policy=name,
        requested_policy=requested,
        audit_input=AuditInput(trace=trace, spans=spans, hidden=hidden, task=task, checks=checks),
    )


def _dropped(
    trace: ExpertTrace, spans: Sequence[Span], task: MaskableTask, requested: str
) -> Scaffold:
    """An empty scaffold, audited as one that hides every character."""
    hidden = tuple(
        Span(turn=index, start=0, end=len(turn.text), kind=SpanKind.CUT, value=turn.text)
        for index, turn in enumerate(trace.turns)
        if turn.text
    )
    return Scaffold(
        text="",
        turns=(),
        hidden=(),
        policy="",
        requested_policy=requested,
        is_dropped=True,
        audit_input=AuditInput(trace=trace, spans=spans, hidden=hidden, task=task, checks=None),
    )


def _policy(policy: str | MaskPolicy) -> MaskPolicy:
    if not isinstance(policy, str):
        return policy
    # What is registered under the name is a part of the key, as it may be replaced.
    return _policy_by_name(policy, POLICIES.get(policy.partition("(")[0].strip()))


@lru_cache(maxsize=256)
def _policy_by_name(name: str, registered: Callable[..., Sequence[Span]] | None) -> MaskPolicy:
    return policy_by_name(name)


def _without_results(trace: ExpertTrace) -> ExpertTrace:
    """The trace with empty tool results; turns keep their index, so spans fit the original."""
    if all(turn.kind is not TurnKind.TOOL_RESULT for turn in trace.turns):
        return trace
    return ExpertTrace(
        turns=tuple(
            replace(turn, text="") if turn.kind is TurnKind.TOOL_RESULT else turn
            for turn in trace.turns
        )
    )


def _without_kept(chosen: Iterable[Span], spans: Iterable[Span], trace: ExpertTrace) -> list[Span]:
    """The chosen spans that lie in no result of a tool, be it a turn or a document in a text."""
    texts = [turn.text for turn in trace.turns]
    documents = merge_overlaps((span for span in spans if span.kind is SpanKind.DOCUMENT), texts)
    starts = [(document.turn, document.start) for document in documents]

    def is_kept(span: Span) -> bool:
        if span.kind is SpanKind.CUT:
            return False
        if trace.turns[span.turn].kind is TurnKind.TOOL_RESULT:
            return True
        at = bisect_right(starts, (span.turn, span.start)) - 1
        return at >= 0 and documents[at].turn == span.turn and span.end <= documents[at].end

    return [span for span in chosen if not is_kept(span)]


def _grouped(hidden: Sequence[Span], task: MaskableTask) -> tuple[Span, ...]:
    """Hidden spans numbered so that equal values share a number, counted from 1 per placeholder.

    All mentions of the target are one value, whatever alias they use, and so are spans to which a
    detector gave one group.
    """
    numbers: dict[Hashable, int] = {}
    counts: dict[str, int] = {}
    grouped: list[Span] = []
    target = Target(task)
    for span in hidden:
        name = placeholder_name(span.kind)
        value: Hashable
        if target.is_shown_by(span):
            value = ""
        elif span.group >= 0:
            value = (span.detector, span.group)  # each detector counts its groups by itself
        else:
            value = canonical_value(span.value) or span.value
        key = (name, value)
        if key not in numbers:
            counts[name] = numbers[key] = counts.get(name, 0) + 1
        grouped.append(span._replace(group=numbers[key]))
    return tuple(grouped)
