"""A policy and tasks in, accuracies with confidence intervals out. Always bare, and asserted so."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..envs import Task
from ..envs.verifiers import exact_match, f1_score
from .chat import Chat
from .engine import Engine
from .env_pool import EnvPool
from .guidance import Slot
from .rollout import RolloutConfig, rollout
from .trajectory import Trajectory


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A share with its 95% confidence interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.mean:.1f}% [{100 * self.low:.1f}, {100 * self.high:.1f}]"


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What a bare evaluation found."""

    accuracy: Estimate
    """Share that the verifier called correct; a verifier error is in no share, see below."""

    exact_match: float
    """Mean exact match of the answer with any gold answer, 0 to 1 (SQuAD normalisation)."""

    f1: float
    """Mean token F1 of the answer with the nearest gold answer, 0 to 1."""

    num_tasks: int
    num_verifier_errors: int
    """Tasks whose answer could not be graded; they are left out of the accuracy."""

    num_failed: int
    """Episodes that an environment or a deadline ended; they count as not correct."""

    mean_turns: float
    mean_action_tokens: float
    tool_error_share: float
    """Share of turns whose tool failed."""

    retrieval_recall: float | None = None
    """Share of episodes that were shown every gold passage; None where tasks name none."""

    def to_row(self) -> dict[str, float | int | None]:
        """One flat row of numbers."""
        return {
            "accuracy": self.accuracy.mean,
            "accuracy_low": self.accuracy.low,
            "accuracy_high": self.accuracy.high,
            "exact_match": self.exact_match,
            "f1": self.f1,
            "num_tasks": self.num_tasks,
            "num_verifier_errors": self.num_verifier_errors,
            "num_failed": self.num_failed,
            "mean_turns": self.mean_turns,
            "mean_action_tokens": self.mean_action_tokens,
            "tool_error_share": self.tool_error_share,
            "retrieval_recall": self.retrieval_recall,
        }


def wilson_interval(num_correct: int, num_total: int, *, z: float = 1.959963984540054) -> Estimate:
    """Share of successes with Wilson's score interval.

    ``(p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)``; it stays in [0, 1] and is
    sound near 0 and 1, where the normal interval is not. Source: Wilson 1927, JASA 22(158).

    Raises:
        ValueError: If there is nothing to estimate from.
    """
    if num_total < 1 or not 0 <= num_correct <= num_total:
        raise ValueError(f"Cannot estimate a share from {num_correct} of {num_total}.")
    p, n = num_correct / num_total, num_total
    centre = p + z * z / (2 * n)
    radius = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low, high = max(0.0, (centre - radius) / scale), min(1.0, (centre + radius) / scale)
    return Estimate(mean=p, low=low, high=high)


def evaluate(
    engine: Engine,
    chat: Chat,
    envs: EnvPool,
    tasks: Sequence[Task],
    config: RolloutConfig,
    *,
    seed: int = 0,
    should_stop: Callable[[], bool] = lambda: False,
    progress: Callable[[int], object] = lambda num_finished: None,
) -> tuple[Evaluation, list[Trajectory]]:
    """Plays each task once, bare, at the temperature of `config` (0 for greedy), and scores it.

    Raises:
        AssertionError: If an episode was shown a scaffold: then it is no evaluation.
    """
    if not tasks:
        raise ValueError("There is no task to evaluate on.")
    slots = [Slot(task=task, index=0) for task in tasks]
    trajectories = rollout(engine, chat, envs, slots, config, seed=seed, should_stop=should_stop)
    return summarise(tasks, trajectories), trajectories


def summarise(tasks: Sequence[Task], trajectories: Sequence[Trajectory]) -> Evaluation:
    """Scores bare trajectories, one per task in the same order.

    Raises:
        AssertionError: If a trajectory was shown a scaffold.
    """
    for trajectory in trajectories:
        assert_bare(trajectory)
    graded = [t for t in trajectories if t.verdict is None or t.verdict.value != "verifier_error"]
    turns = [turn for t in trajectories for turn in t.turns]
    found = [
        set(task.gold_passages) <= set(t.passage_ids)
        for task, t in zip(tasks, trajectories, strict=True)
        if task.gold_passages
    ]
    count = len(trajectories)
    return Evaluation(
        accuracy=wilson_interval(sum(t.is_correct for t in graded), max(len(graded), 1)),
        exact_match=sum(_best(exact_match, t) for t in trajectories) / count,
        f1=sum(_best(f1_score, t) for t in trajectories) / count,
        num_tasks=count,
        num_verifier_errors=count - len(graded),
        num_failed=sum(bool(t.error) or t.end_reason == "deadline" for t in trajectories),
        mean_turns=len(turns) / count,
        mean_action_tokens=sum(t.num_action_tokens for t in trajectories) / count,
        tool_error_share=sum(bool(turn.tool_error) for turn in turns) / max(len(turns), 1),
        retrieval_recall=sum(found) / len(found) if found else None,
    )


def assert_bare(trajectory: Trajectory) -> None:
    """Raises AssertionError unless the episode was played without a scaffold."""
    shown = trajectory.turns[0].prompt_ids if trajectory.turns else trajectory.bare_prompt_ids
    if trajectory.is_guided or shown != trajectory.bare_prompt_ids:
        raise AssertionError(
            f"Task {trajectory.task_id!r} was played with a scaffold; an evaluation is always bare."
        )


def _best(score: Callable[[str, Sequence[str]], float], trajectory: Trajectory) -> float:
    return score(trajectory.answer, trajectory.gold) if trajectory.gold else 0.0
