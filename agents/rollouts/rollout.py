"""Tasks in, groups of trajectories out: multi-turn episodes on one engine, without a barrier.

Nothing waits for anything but its own: a task's next round of rollouts starts when its last one is over,
and a group that teaches nothing is replaced while the others are still playing.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from ...envs import Task
from ..engines.engine import Engine
from ..guidance.config import Planner, Slot
from .chat import Chat
from .env_pool import EnvPool
from .rollout_config import (
    RolloutConfig,
    RolloutCounts,
    RolloutFailedError,
    RolloutInterruptedError,
    request_seed,
)
from .scheduler import Scheduler
from .trajectory import Trajectory

__all__ = [
    "RolloutConfig",
    "RolloutCounts",
    "RolloutFailedError",
    "RolloutInterruptedError",
    "play_groups",
    "request_seed",
    "rollout",
    "rollout_groups",
]

_MAX_ROUNDS = 16
_MAX_REPLACEMENTS = 4  # times as many groups as are wanted, where nothing else is said

OnGroup = Callable[[list[Trajectory]], object]


def rollout(
    engine: Engine,
    chat: Chat,
    envs: EnvPool,
    slots: Sequence[Slot],
    config: RolloutConfig,
    *,
    seed: int = 0,
    should_stop: Callable[[], bool] = lambda: False,
    on_finished: Callable[[Trajectory], object] = lambda trajectory: None,
    counts: RolloutCounts | None = None,
) -> list[Trajectory]:
    """Plays one episode per slot.

    Args:
        engine: Idle, with the weights to sample from.
        chat: Renders observations to token ids.
        envs: Where environments come from.
        slots: What to play; a slot's own seed comes from `seed`, its task and its index.
        config: Sampling and limits.
        seed: With the slot, fixes what each turn samples.
        should_stop: Asked between decoding steps.
        on_finished: Called with each trajectory as its episode ends, in that order; what it raises
            ends the rollout.
        counts: Filled in with what the rollout had to cope with.

    Returns:
        One trajectory per slot, in the order of the slots. One whose environment raised, hung or outlived
        the deadline, or whose request the engine refused, says so; its neighbours go on.

    Raises:
        RolloutInterruptedError: If `should_stop` said yes; it carries what was finished, and what was not.
        RolloutFailedError: If the engine fails whatever is asked of it; it carries what was finished.
    """
    scheduler = Scheduler(engine, chat, envs, config, seed=seed, counts=counts)
    numbers = [scheduler.add(slot) for slot in slots]
    scheduler.run(lambda _, trajectory: on_finished(trajectory), should_stop)
    return [scheduler.finished[number] for number in numbers]


def play_groups(
    engine: Engine,
    chat: Chat,
    envs: EnvPool,
    tasks: Iterable[Task],
    planner: Planner,
    config: RolloutConfig,
    *,
    num_groups: int | None = None,
    is_wanted: Callable[[list[Trajectory]], bool] | None = None,
    seed: int = 0,
    should_stop: Callable[[], bool] = lambda: False,
    on_finished: OnGroup = lambda group: None,
    counts: RolloutCounts | None = None,
) -> list[list[Trajectory]]:
    """Plays the rounds that a planner asks for, each task at its own pace.

    With `is_wanted` each group that is not is replaced by the next task at once (dynamic sampling, DAPO,
    arXiv:2503.14476, section 3.2, which samples whole batches anew). Which groups come back depends on the
    tasks' outcomes alone and not on who was faster: they are the first wanted ones in the order of the
    tasks, so that short episodes have no advantage.

    Args:
        engine: As for `rollout`, as are `chat`, `envs`, `config`, `seed`, `should_stop`, and `counts`.
        chat: See there.
        envs: See there.
        tasks: What to play, in order; one is taken when its first rollout may begin. A task that comes
            again is sampled with other seeds.
        planner: Asked for each task's next round when its last one is over.
        config: See there; `max_groups` bounds the replacements.
        num_groups: Groups to play, or with `is_wanted` to find; None for one per task.
        is_wanted: Whether a finished group is worth learning from; None for all.
        seed: See there.
        should_stop: See there.
        on_finished: Called with each group as it ends, also with one that is not wanted.
        counts: See there.

    Returns:
        The (wanted) groups in the order of their tasks, each in the order of its slots; fewer than
        `num_groups` where tasks or `max_groups` ran out.

    Raises:
        RolloutInterruptedError: As `rollout`.
        RolloutFailedError: As `rollout`.
    """
    scheduler = Scheduler(engine, chat, envs, config, seed=seed, counts=counts)
    play = _GroupPlay(scheduler, iter(tasks), planner, is_wanted, on_finished)
    if num_groups is not None:
        play.max_groups = num_groups
        if is_wanted is not None:
            play.max_groups = max(num_groups, config.max_groups or _MAX_REPLACEMENTS * num_groups)
    first = num_groups if num_groups is not None else play.max_groups
    while play.num_begun < first and play.begin():
        pass
    scheduler.run(play.on_trajectory, should_stop)
    return [group.trajectories for group in play.groups if group.is_wanted]


def rollout_groups(
    engine: Engine,
    chat: Chat,
    envs: EnvPool,
    tasks: Sequence[Task],
    planner: Planner,
    config: RolloutConfig,
    *,
    seed: int = 0,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[Trajectory]:
    """All trajectories of `play_groups` in one list."""
    groups = play_groups(
        engine, chat, envs, tasks, planner, config, seed=seed, should_stop=should_stop
    )
    return [trajectory for group in groups for trajectory in group]


@dataclass(kw_only=True)
class _Group:
    """The rollouts of one task."""

    task: Task
    repeat: int
    trajectories: list[Trajectory] = field(default_factory=list)
    num_rounds: int = 0
    round: dict[int, Trajectory | None] = field(default_factory=dict)  # by number; None: not yet
    is_wanted: bool = False


class _GroupPlay:
    """Begins groups, and their next rounds as their rollouts end."""

    def __init__(
        self,
        scheduler: Scheduler,
        tasks: Iterator[Task],
        planner: Planner,
        is_wanted: Callable[[list[Trajectory]], bool] | None,
        on_finished: OnGroup,
    ) -> None:
        self.scheduler = scheduler
        self.tasks = tasks
        self.planner = planner
        self.is_wanted = is_wanted
        self.on_finished = on_finished
        self.groups: list[_Group] = []
        self.max_groups = 2**63
        self._owners: dict[int, _Group] = {}
        self._seen: Counter[str] = Counter()

    @property
    def num_begun(self) -> int:
        return len(self.groups)

    def begin(self) -> bool:
        """Begins the next task's group; False where there is none, or no more are allowed."""
        if self.num_begun >= self.max_groups or (task := next(self.tasks, None)) is None:
            return False
        group = _Group(task=task, repeat=self._seen[task.task_id])
        self._seen[task.task_id] += 1
        self.groups.append(group)
        self.scheduler.counts.num_groups += 1
        self._next_round(group)
        return True

    def on_trajectory(self, number: int, trajectory: Trajectory) -> None:
        group = self._owners.pop(number)
        group.round[number] = trajectory
        if all(group.round.values()):
            self._next_round(group)

    def _next_round(self, group: _Group) -> None:
        group.trajectories += [t for t in group.round.values() if t is not None]
        slots: list[Slot] = []
        if group.num_rounds < _MAX_ROUNDS:
            slots = self.planner.plan(group.task, group.trajectories, group.num_rounds)
        group.num_rounds += 1
        group.round = {}
        for slot in slots:
            number = self.scheduler.add(slot, repeat=group.repeat)
            group.round[number] = None
            self._owners[number] = group
        if not slots:
            self._end(group)

    def _end(self, group: _Group) -> None:
        group.is_wanted = self.is_wanted is None or self.is_wanted(group.trajectories)
        self.on_finished(group.trajectories)
        if not group.is_wanted:
            self.scheduler.counts.num_unwanted_groups += 1
            self.begin()
