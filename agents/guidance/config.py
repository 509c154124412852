"""A task and its rollouts so far in, the next rollouts to make out: who sees which scaffold, when.

This file holds the order for one rollout and the settings; the planners are in `planners.py` and
`adaptive_planners.py`. A planner never sees tokens, weights or the engine.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ...envs import Task
from ..rollouts.trajectory import Trajectory

if TYPE_CHECKING:
    from .planner import GuidancePlanner

PLANNERS = ("bare", "always", "mixed", "rescue", "escalate", "levels", "adaptive", "budget")
MERGES = ("append", "replace_group", "replace_failed")
_DEFAULT_LADDER = ("masked_prefix(0.25)", "masked_prefix(0.5)", "masked_prefix(0.75)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Slot:
    """An order for one rollout."""

    task: Task
    index: int
    """Place within the task's rollouts of this step; makes the sampling seed."""

    scaffold: str = ""
    """Mask policy of the scaffold to show; empty for a bare rollout."""

    train_on: str = "guided"
    """Which prompt the loss conditions on: "guided" or "bare"."""

    @property
    def group(self) -> str:
        """Rollouts that share a baseline: a guided one never sets that of a bare one."""
        return group_name(self.task.task_id, self.scaffold)


def group_name(task_id: str, scaffold: str = "") -> str:
    """The group of a task's rollouts that see the same scaffold; without one, of its bare ones."""
    return f"{task_id}|{scaffold}"


class Planner(Protocol):
    """Says which rollouts of a task see what; all that a rollout needs of a planner."""

    def plan(self, task: Task, group: Sequence[Trajectory], round_index: int) -> list[Slot]:
        """The next rollouts of this task; empty when it has enough.

        Args:
            task: Whose rollouts they are.
            group: Its rollouts of this step so far, in the order of their slots.
            round_index: How often it was asked in this step; rounds are over before the next is asked for.
        """


@dataclass(frozen=True, kw_only=True)
class GuidanceConfig:
    """Who sees a scaffold, and what the loss makes of it."""

    planner: str = "always"
    """"bare" (no scaffold), "always" (every rollout; SMEPO), "mixed" (a share of each task's rollouts),
    "rescue" (only where the whole bare group failed), "escalate" (the same, with more and more help;
    GHPO), "levels" (a level of help for each task that follows its accuracy; SAGE-light), "adaptive" (as
    much of the trace as makes about half succeed; SEELE), or "budget" (no scaffold, but more rollouts
    for hard tasks; DARS)."""

    policy: str = "all"
    """Mask policy of the scaffolds. Planner "adaptive": one that takes the share to show, "prefix" or
    "masked_prefix"."""

    train_on: str = "guided"
    """Prompt that the loss of a guided rollout conditions on. "guided" is the published method; "bare"
    moves the credit to the prompt that evaluation uses; "handover" begins with the one and goes over to
    the other for good once guided rollouts succeed often enough."""

    group_size: int = 8
    """Rollouts that share a baseline."""

    merge: str = ""
    """Which rollouts of a task are trained on where there were several rounds: "append" (all),
    "replace_group" (those of the last round), "replace_failed" (a guided success in place of each bare
    failure; other guided rollouts are left out). Empty for the planner's own."""

    ladder: tuple[str, ...] = ()
    """Planners "escalate" and "levels": mask policies from the least help to the most. Empty for the
    first quarter, half and three quarters of the masked trace."""

    guided_share: float = 0.5
    """Planner "mixed": the share of a task's rollouts that see a scaffold; both parts need two."""

    rescue_size: int | None = None
    """Planner "rescue": guided rollouts of a rescue; None for `group_size`."""

    num_rounds: int = 4
    """Planner "adaptive": rounds of `group_size` rollouts for each task."""

    target_accuracy: float = 0.5
    """Planner "adaptive": the accuracy that the share of the trace is chosen for."""

    raise_below: float = 0.1
    """Planner "levels": a task gets more help when at most this share of its rollouts succeeded."""

    lower_above: float = 0.35
    """Planner "levels": a task gets less help when more than this share of its rollouts succeeded."""

    max_rollouts: int = 32
    """Planner "budget": rollouts of a task at most, those of the first round included."""

    budget: str = "et"
    """Planner "budget": "et" brings hard tasks to the weight of one that succeeds half the time; "hw"
    gives them more than that."""

    anneal_steps: int = 0
    """The share of tasks that are guided falls linearly to 0 by this step; 0 for no such fall."""

    handover_accuracy: float = 0.45
    """`train_on` "handover": mean accuracy of the guided rollouts of the last 5 steps that it takes."""

    success_reward: float = 0.5
    """Reward from which a rollout without a verdict counts as a success."""

    def __post_init__(self) -> None:
        _check_choice("planner", self.planner, PLANNERS)
        _check_choice("train_on", self.train_on, ("guided", "bare", "handover"))
        _check_choice("budget", self.budget, ("et", "hw"))
        if self.merge:
            _check_choice("merge", self.merge, MERGES)
        if self.group_size < 2:
            raise ValueError(
                f"group_size is {self.group_size}; a baseline needs at least 2 rollouts."
            )
        if self.planner == "mixed":
            num_guided = round(self.guided_share * self.group_size)
            if not 2 <= num_guided <= self.group_size - 2:
                raise ValueError(
                    f"guided_share {self.guided_share} of group_size {self.group_size} leaves a part "
                    "with fewer than 2 rollouts; a baseline needs 2."
                )
        if self.merge == "replace_failed" and self.train_on == "guided":
            raise ValueError(
                "merge 'replace_failed' keeps guided successes only, which then have no baseline of "
                "their own; set train_on to 'bare', or merge to 'append'."
            )
        if self.planner == "budget" and self.max_rollouts < self.group_size:
            raise ValueError(
                f"max_rollouts is {self.max_rollouts}, below group_size {self.group_size}; give at "
                "least as many."
            )
        for name in ("target_accuracy", "raise_below", "lower_above", "handover_accuracy"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give a share between 0 and 1.")
        if self.raise_below > self.lower_above:
            raise ValueError(
                f"raise_below {self.raise_below} is above lower_above {self.lower_above}: a task "
                "would get more and less help at once."
            )
        for name, least in (("num_rounds", 1), ("anneal_steps", 0), ("rescue_size", 2)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} is {value}; give at least {least}.")

    @property
    def rungs(self) -> tuple[str, ...]:
        """The ladder: mask policies from the least help to the most."""
        return self.ladder or _DEFAULT_LADDER


def make_planner(config: GuidanceConfig) -> "GuidancePlanner":
    """The planner that a configuration names, at its beginning.

    Raises:
        LookupError: If it names a mask policy that there is not.
    """
    from .planners import PLANNER_KINDS  # which import the settings from here

    return PLANNER_KINDS[config.planner](config)


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        near = difflib.get_close_matches(value, choices, n=1, cutoff=0.0)[0]
        raise ValueError(
            f"No {name} {value!r}. Did you mean {near!r}? There are: {', '.join(choices)}."
        )
