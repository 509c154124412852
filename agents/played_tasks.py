"""A step's rollouts: played by each rank, known to all of them in one order."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..envs import Task
from .distributed import World
from .engines.engine import Engine
from .guidance.outcomes import TaskOutcome
from .guidance.planner import GuidancePlanner
from .learning.credit import has_signal
from .rollouts.chat import Chat
from .rollouts.env_pool import EnvPool
from .rollouts.rollout import RolloutCounts, RolloutInterruptedError, play_groups
from .rollouts.trajectory import Trajectory
from .task_stream import TaskStream
from .trainer_config import TrainerConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class PlayedTask:
    """A task and all that was played of it in a step."""

    task: Task
    rank: int
    place: int
    """Among the tasks of its rank in this step."""

    trajectories: tuple[Trajectory, ...]
    outcome: TaskOutcome
    is_wanted: bool
    """Whether it is learnt from: dynamic sampling replaces tasks that teach nothing."""


def play_tasks(
    engine: Engine,
    chat: Chat,
    envs: EnvPool,
    stream: TaskStream,
    planner: GuidancePlanner,
    config: TrainerConfig,
    world: World,
    *,
    seed: int,
    should_stop: Callable[[], bool],
    on_finished: Callable[[list[Trajectory]], object],
    counts: RolloutCounts,
) -> list[PlayedTask]:
    """Plays this rank's share of a step; what all ranks played, in the order that one rank would have had.

    Args:
        engine: As for `play_groups`, as are `chat`, `envs`, `seed`, `should_stop`, `on_finished` and
            `counts`.
        chat: See there.
        envs: See there.
        stream: Where the rank's tasks come from; it is put back where the step is interrupted.
        planner: Asked for each task's rollouts.
        config: How many tasks, and whether those without signal are replaced.
        world: The ranks; a common call.
        seed: See there.
        should_stop: See there.
        on_finished: See there.
        counts: See there.

    Raises:
        RolloutInterruptedError: On every rank, if one was asked to stop.
        RolloutFailedError: If this rank's engine is lost.
    """
    position = stream.position
    taken: list[Task] = []
    finished: list[list[Trajectory]] = []

    def tasks() -> Iterator[Task]:
        for task in stream:
            taken.append(task)
            yield task

    def finish(group: list[Trajectory]) -> None:
        finished.append(group)
        on_finished(group)

    wanted: list[list[Trajectory]] = []
    try:
        wanted = play_groups(
            engine,
            chat,
            envs,
            tasks(),
            planner,
            config.rollout,
            num_groups=config.tasks_per_step // world.size,
            is_wanted=(
                (lambda group: has_signal(planner.trained(group), config.filters))
                if config.dynamic_sampling
                else None
            ),
            seed=seed,
            should_stop=should_stop,
            on_finished=finish,
            counts=counts,
        )
        is_interrupted = False
    except RolloutInterruptedError:
        is_interrupted = True
    if world.max(int(is_interrupted)):
        stream.position = position
        raise RolloutInterruptedError([])
    ids_of_wanted = {id(group) for group in wanted}
    own = [
        PlayedTask(
            task=task,
            rank=world.rank,
            place=place,
            trajectories=tuple(group),
            outcome=planner.outcome(task, group),
            is_wanted=id(group) in ids_of_wanted,
        )
        for place, task, group in _in_order(taken, finished)
    ]
    everyone = [played for share in world.gather(own) for played in share]
    return sorted(everyone, key=lambda played: (played.place, played.rank))


def _in_order(
    taken: list[Task], finished: list[list[Trajectory]]
) -> Iterator[tuple[int, Task, list[Trajectory]]]:
    """The groups in the order in which their tasks were taken, not in that of their ends."""
    waiting: dict[str, list[list[Trajectory]]] = {}
    for group in finished:
        if group:
            waiting.setdefault(group[0].task_id, []).append(group)
    for place, task in enumerate(taken):
        if groups := waiting.get(task.task_id):
            yield place, task, groups.pop(0)
