"""A policy and tasks in, accuracies with confidence intervals out. Always bare, and asserted so."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...envs import Task
from ..engines.engine import Engine
from ..guidance.config import Slot
from ..rollouts.chat import Chat
from ..rollouts.env_pool import EnvPool
from ..rollouts.rollout import RolloutConfig, rollout
from ..rollouts.trajectory import Trajectory
from .scores import score_question
from .statistics import Estimate, wilson_interval


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What a bare evaluation found."""

    accuracy: Estimate
    """Share that the verifier called correct; a verifier error is in no share, see below."""

    exact_match: float | None
    """Mean exact match of the answer with any gold answer, 0 to 1 (SQuAD normalisation); None where
    nothing is searched for."""

    f1: float | None
    """Mean token F1 of the answer with the nearest gold answer, 0 to 1; None as above."""

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


def evaluate(
    engine: Engine,
    chat: Chat,
    envs: EnvPool,
    tasks: Sequence[Task],
    config: RolloutConfig,
    *,
    seed: int = 0,
    should_stop: Callable[[], bool] = lambda: False,
    on_finished: Callable[[Trajectory], object] = lambda trajectory: None,
) -> tuple[Evaluation, list[Trajectory]]:
    """Plays each task once, bare, at the temperature of `config` (0 for greedy), and scores it.

    Arguments as for `rollout`; `on_finished` is called with each trajectory as its episode ends.

    Raises:
        AssertionError: If an episode was shown a scaffold: then it is no evaluation.
    """
    if not tasks:
        raise ValueError("There is no task to evaluate on.")
    slots = [Slot(task=task, index=0) for task in tasks]
    trajectories = rollout(
        engine,
        chat,
        envs,
        slots,
        config,
        seed=seed,
        should_stop=should_stop,
        on_finished=on_finished,
    )
    return summarise(tasks, trajectories), trajectories


def summarise(tasks: Sequence[Task], trajectories: Sequence[Trajectory]) -> Evaluation:
    """Scores bare trajectories, one per task in the same order.

    Raises:
        AssertionError: If a trajectory was shown a scaffold.
    """
    for trajectory in trajectories:
        assert_bare(trajectory)
    scores = [score_question(task, t) for task, t in zip(tasks, trajectories, strict=True)]
    graded = [each.accuracy for each in scores if each.accuracy is not None]
    count, num_turns = len(scores), sum(each.turns for each in scores)
    return Evaluation(
        accuracy=wilson_interval(round(sum(graded)), max(len(graded), 1)),
        exact_match=_mean([each.exact_match for each in scores]),
        f1=_mean([each.f1 for each in scores]),
        num_tasks=count,
        num_verifier_errors=count - len(graded),
        num_failed=sum(is_failed(trajectory) for trajectory in trajectories),
        mean_turns=num_turns / count,
        mean_action_tokens=sum(each.tokens or 0 for each in scores) / count,
        tool_error_share=sum(each.tool_failures for each in scores) / max(num_turns, 1),
        retrieval_recall=_mean([each.all_gold_shown for each in scores]),
    )


def is_failed(trajectory: Trajectory) -> bool:
    """Whether something else than the policy ended the episode: a crash, a deadline, the engine."""
    return bool(trajectory.error) or trajectory.end_reason in ("deadline", "engine_error")


def _mean(scores: Sequence[float | None]) -> float | None:
    """Over the tasks that have the score; None where none has."""
    found = [score for score in scores if score is not None]
    return sum(found) / len(found) if found else None


def assert_bare(trajectory: Trajectory) -> None:
    """Raises AssertionError unless the episode was played without a scaffold."""
    shown = trajectory.turns[0].prompt_ids if trajectory.turns else trajectory.bare_prompt_ids
    if trajectory.is_guided or shown != trajectory.bare_prompt_ids:
        raise AssertionError(
            f"Task {trajectory.task_id!r} was played with a scaffold; an evaluation is always bare."
        )
