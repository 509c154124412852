"""Made-up chains with computations beside the path: what each policy hides and what leaks."""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from maskgym.envs import Task
from maskgym.masking import ExpertTrace, SpanKind, find_spans, policy_by_name
from maskgym.masking.critical import Overlaps
from maskgym.masking.policies import critical
from maskgym.masking.replay import is_one_step_away, is_replayable
from maskgym.masking.spans import merge_overlaps
from maskgym.masking.targets import Target


@dataclass(frozen=True, kw_only=True)
class Chain:
    """A solution whose first lines compute the target, step by step, from the question."""

    task: Task
    trace: ExpertTrace
    distractor_lines: tuple[tuple[int, int], ...]
    """Start and end of the lines that have nothing to do with the target."""


def chains(num_chains: int, seed: int) -> Iterator[Chain]:
    """Chains of three steps over four of five givens; beside each step, often a distractor."""
    draw = random.Random(seed)
    for index in range(num_chains):
        givens = [draw.randint(2, 40) for _ in range(5)]
        value = givens[0]
        lines: list[str] = []
        distractors: list[int] = []
        for step, operand in enumerate(givens[1:4], start=1):
            operator = draw.choice("+*-" if value > operand else "+*")
            result = {"+": value + operand, "*": value * operand, "-": value - operand}[operator]
            lines.append(f"Step {step}: we compute {value} {operator} {operand} = {result}.")
            value = result
            if draw.random() < 0.6:
                one, other = draw.randint(2, 50), draw.randint(2, 50)
                distractors.append(len(lines))
                lines.append(f"Beside the point, {one} + {other} = {one + other}.")
        lines.append(f"So the answer is \\boxed{{{value}}}.")
        items = ", ".join(map(str, givens))
        starts = [sum(len(line) + 1 for line in lines[:at]) for at in distractors]
        yield Chain(
            task=Task(
                task_id=f"chain {index}",
                question=f"A shop has {items} items. How many are there after the steps?",
                answers=(str(value),),
            ),
            trace=ExpertTrace.from_text("\n".join(lines)),
            distractor_lines=tuple(
                (start, start + len(lines[at]))
                for start, at in zip(starts, distractors, strict=True)
            ),
        )


def test_distractors_stay_in_sight_though_their_digits_coincide() -> None:
    num_values = num_hidden = num_coinciding = num_coinciding_hidden = 0
    num_on_path = num_on_path_hidden = 0
    for chain in chains(400, seed=3):
        spans = find_spans(chain.trace, chain.task)
        hidden = {span.start for span in critical(chain.trace, spans, chain.task)}
        beside = [
            span
            for start, end in chain.distractor_lines
            for span in spans
            if span.kind is SpanKind.NUMBER and start <= span.start < end
        ]
        path = [span for span in spans if span.kind is SpanKind.NUMBER and span not in beside]
        num_on_path += len(path)
        num_on_path_hidden += sum(span.start in hidden for span in path)
        values_on_path = {span.value for span in path}
        for span in beside:
            num_values += 1
            num_hidden += span.start in hidden
            if span.value in values_on_path:
                num_coinciding += 1
                num_coinciding_hidden += span.start in hidden
    assert num_values > 1500 and num_coinciding > 150
    # A line beside the path that computes a value of it once more is taken for its source.
    assert 0.98 * num_on_path < num_on_path_hidden
    # Hidden are those that repeat what the path computed before them, or the target itself.
    assert num_hidden < 0.03 * num_values
    assert num_coinciding_hidden < 0.2 * num_coinciding


# Shares in percent: of numbers hidden, then of chains with leak L1, L2 and L3. A trace in full is
# one step from its answer everywhere; that it can be redone holds for every policy but the control.
SHAPE = {
    "none": ((0, 0), (100, 100), (100, 100), (100, 100)),
    "random_matched": ((5, 60), (30, 100), (30, 100), (30, 100)),
    "answer_only": ((8, 20), (0, 0), (100, 100), (100, 100)),
    "critical_keep_given": ((25, 50), (0, 0), (0, 5), (100, 100)),
    "all_keep_given": ((60, 85), (0, 0), (0, 5), (100, 100)),
    "critical": ((60, 80), (0, 0), (0, 0), (100, 100)),
    "all": ((100, 100), (0, 0), (0, 0), (100, 100)),
}


def shares_of(policy: str, num_chains: int) -> tuple[float, float, float, float]:
    count: Counter[str] = Counter()
    for chain in chains(num_chains, seed=3):
        task, trace = chain.task, chain.trace
        spans = find_spans(trace, task)
        values = merge_overlaps(spans, [trace.text])
        hidden = merge_overlaps(policy_by_name(policy)(trace, spans, task), [trace.text])
        cover = Overlaps((span.turn, span.start, span.end) for span in hidden)
        target = Target(task)
        count["values"] += len(values)
        count["hidden"] += sum(map(cover.touch, values))
        count["L1"] += any(target.equals(span.value) for span in values if not cover.touch(span))
        count["L2"] += is_one_step_away(trace, spans, hidden, task)
        count["L3"] += is_replayable(trace, spans, hidden, task)
    leaks = (100 * count[level] / num_chains for level in ("L1", "L2", "L3"))
    return 100 * count["hidden"] / count["values"], *leaks  # type: ignore[return-value]


@pytest.mark.parametrize("policy", SHAPE)
def test_each_policy_hides_and_leaks_about_as_much_as_it_should(policy: str) -> None:
    found = shares_of(policy, num_chains=300)
    for share, (least, most) in zip(found, SHAPE[policy], strict=True):
        assert least <= share <= most, found
