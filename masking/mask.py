"""mask(): an expert trace, its task and a policy in, the scaffold with its audit out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from .audit import Audit, audit_scaffold
from .detectors import find_spans
from .givens import canonical_value
from .policies import MaskPolicy, policy_by_name
from .render import RenderConfig, placeholder_name, render_actions
from .spans import MaskableTask, Span, SpanKind, check_span, merge_overlaps
from .targets import Target
from .traces import ExpertTrace, TurnKind


@dataclass(frozen=True, kw_only=True, slots=True)
class Scaffold:
    """What is left of an expert trace after masking."""

    text: str
    """All actions that are not empty, joined by newlines."""

    turns: tuple[str, ...]
    """Masked text of the expert's i-th action; "" where nothing of it is left."""

    spans: tuple[Span, ...]
    """The hidden spans in reading order, one for each placeholder; they do not overlap."""

    policy: str
    audit: Audit


def mask(
    trace: ExpertTrace | str,
    task: MaskableTask,
    policy: str | MaskPolicy = "all",
    *,
    render: RenderConfig | None = None,
    equals: Callable[[str, str], bool] | None = None,
) -> Scaffold:
    """The scaffold of a trace: what `policy` hides is replaced by placeholders.

    ``mask("Step 1: 3+4=7", task).text`` is ``"Step 1: [NUMBER]+[NUMBER]=[NUMBER]"``.

    Args:
        trace: A trace, or a solution as text.
        task: Its task; tells the target, the given values and which detectors apply.
        policy: Name of a policy, such as "all" or "prefix(0.5)", or a policy itself.
        render: How the result is written.
        equals: The verifier's equality of a value and an answer, for the audit.

    Raises:
        LookupError: If there is no policy of this name.
        ValueError: If a policy or detector gives spans that do not fit the trace.
    """
    config = render or RenderConfig()
    trace = ExpertTrace.from_text(trace) if isinstance(trace, str) else trace
    if config.tool_results == "drop":
        trace = _without_results(trace)
    choose = policy_by_name(policy) if isinstance(policy, str) else policy
    name = policy if isinstance(policy, str) else getattr(policy, "__name__", type(policy).__name__)
    spans = find_spans(trace, task)
    texts = [turn.text for turn in trace.turns]
    chosen = choose(trace, spans, task)
    for span in chosen:
        check_span(span, texts, f"Policy {name!r}")
    if config.tool_results == "keep":
        chosen = [span for span in chosen if not _is_kept_result(span, trace)]
    hidden = _grouped(merge_overlaps(chosen, texts), task)
    actions = list(render_actions(trace, hidden, config))
    while actions and not actions[-1]:
        del actions[-1]
    return Scaffold(
        text="\n".join(action for action in actions if action),
        turns=tuple(actions),
        spans=hidden,
        policy=name,
        audit=audit_scaffold(trace, spans, hidden, task, equals),
    )


def _without_results(trace: ExpertTrace) -> ExpertTrace:
    """The trace with empty tool results; turns keep their index, so spans fit the original."""
    return ExpertTrace(
        turns=tuple(
            replace(turn, text="") if turn.kind is TurnKind.TOOL_RESULT else turn
            for turn in trace.turns
        )
    )


def _is_kept_result(span: Span, trace: ExpertTrace) -> bool:
    is_result = trace.turns[span.turn].kind is TurnKind.TOOL_RESULT
    return is_result and span.kind is not SpanKind.CUT


def _grouped(hidden: Sequence[Span], task: MaskableTask) -> tuple[Span, ...]:
    """Hidden spans numbered so that equal values share a number, counted from 1 per placeholder.

    All mentions of the target are one value, whatever alias they use.
    """
    numbers: dict[tuple[str, str], int] = {}
    counts: dict[str, int] = {}
    grouped: list[Span] = []
    target = Target(task)
    for span in hidden:
        name = placeholder_name(span.kind)
        key = (name, "" if target.is_shown_by(span) else canonical_value(span.value) or span.value)
        if key not in numbers:
            counts[name] = numbers[key] = counts.get(name, 0) + 1
        grouped.append(span._replace(group=numbers[key]))
    return tuple(grouped)
