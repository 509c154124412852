"""Tasks with expert traces in, what is imitated of them out: as a stage, or beside rollouts."""

import random
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import fmean
from threading import Lock

from ...envs import Task, TextEnv
from ..learning.learner import Learner
from ..learning.learner_config import learning_rate
from ..learning.sample import Sample
from ..rollouts.chat import Chat
from ..rollouts.env_pool import EnvPool
from ..rollouts.trajectory import TokenSequence, Trajectory
from ..task_stream import TaskStream
from .config import group_name
from .experts import Lesson as Lesson
from .experts import UnusableExpertError, expert_sequences, play_expert
from .experts import expert_trajectories as expert_trajectories

MIXES = ("none", "likelihood", "expert_row")
_MAX_KEPT = 20_000
_MAX_SUBSTITUTES = 100


@dataclass(frozen=True, kw_only=True)
class SupervisedConfig:
    """Imitation of expert traces, before reinforcement learning or within it."""

    num_steps: int = 0
    """Optimiser steps of imitation before the first rollout; 0 for none."""

    batch_size: int = 64
    """Expert trajectories in a step, over all ranks."""

    lr: float | None = None
    """Learning rate of the stage; None for the learner's own."""

    warmup_share: float = 0.0
    """Share of the stage over which the learning rate rises from 0; it then falls along a cosine."""

    scaffold_policy: str = ""
    """Mask policy of the scaffold that the expert's prompts show; empty for bare prompts."""

    scaffold_share: float = 1.0
    """Share of the tasks whose expert's prompt shows that scaffold; the others stay bare, so that a policy
    learns to use a scaffold and to do without."""

    mix: str = "none"
    """Experts within reinforcement learning: "none", "likelihood" (imitation of the step's tasks, beside
    their rollouts), or "expert_row" (the expert as a member of the bare group, as in LUFFY; set
    `loss.off_policy_gamma` for its shape)."""

    mix_weight: float = 0.1
    """Mix "likelihood": the weight of an expert's token beside a sampled one of advantage 1."""

    num_workers: int = 8
    """Experts that play at once, each in an environment of its own."""

    def __post_init__(self) -> None:
        if self.num_workers < 1:
            raise ValueError(f"num_workers is {self.num_workers}; give at least 1.")
        if self.num_steps < 0 or self.batch_size < 1:
            raise ValueError(
                f"num_steps is {self.num_steps} and batch_size {self.batch_size}; give at least 0 and 1."
            )
        if self.lr is not None and not self.lr > 0:
            raise ValueError(f"lr is {self.lr}; it must be above 0, or None for the learner's.")
        if not 0 <= self.warmup_share <= 1:
            raise ValueError(f"warmup_share is {self.warmup_share}; it lies between 0 and 1.")
        if self.mix not in MIXES:
            raise ValueError(f"mix is {self.mix!r}; choose one of {', '.join(MIXES)}.")
        if not 0 <= self.scaffold_share <= 1:
            raise ValueError(f"scaffold_share is {self.scaffold_share}; it lies between 0 and 1.")
        if not self.mix_weight > 0:
            raise ValueError(f"mix_weight is {self.mix_weight}; it must be above 0.")

    def lr_at(self, step: int) -> float | None:
        """Learning rate of the stage's step after `step` ones; None for the learner's own."""
        if self.lr is None:
            return None
        return learning_rate(
            self.lr,
            step,
            warmup_steps=round(self.warmup_share * self.num_steps),
            decay_steps=self.num_steps if self.warmup_share else 0,
        )


class SupervisedStage:
    """Plays experts when they are needed, each once, and hands out what is imitated.

    What stands in a batch is a function of the seed and the step alone, so that a resumed run goes on as
    it would have. An expert that is wrong, too long, or breaks its environment is left out and counted.
    """

    def __init__(
        self,
        envs: EnvPool,
        chat: Chat,
        tasks: Sequence[Task],
        config: SupervisedConfig,
        *,
        max_tokens: int,
        seed: int = 0,
        report: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Plays nothing yet.

        Args:
            envs: Where environments come from.
            chat: Renders the episodes.
            tasks: Those of the training.
            config: The stage.
            max_tokens: Longest expert trajectory.
            seed: Fixes the order.
            report: Takes a line for the first expert of each kind that is left out.
        """
        self.config = config
        self.left_out: Counter[str] = Counter()
        """Experts that were played or looked at and left out, by the reason."""
        self.num_played = 0
        """Experts that were played to a good end."""
        self._envs = envs
        self._chat = chat
        self._tasks = tasks
        self._max_tokens = max_tokens
        self._seed = seed
        self._report = report
        self._known: OrderedDict[str, Trajectory | None] = OrderedDict()
        self._lock = Lock()  # a pool of environments serves one thread at a time

    def batch(self, step: int, *, rank: int = 0, size: int = 1) -> list[TokenSequence]:
        """What is imitated in a step; of several ranks, one rank's share of it.

        A place whose expert is left out goes to another expert, which is drawn for this place.

        Args:
            step: From 1.
            rank: Of `size` ranks.
            size: Ranks that share the batch.

        Raises:
            ValueError: If hardly any task has an expert that can be imitated.
        """
        first = (step - 1) * self.config.batch_size
        places = range(first, first + self.config.batch_size)[rank::size]
        self._play_together([next(self._candidates(place)) for place in places])
        return [sequence for place in places for sequence in expert_sequences(self._at(place))]

    def mixed(
        self, tasks: Sequence[Task], groups: Sequence[Sequence[Trajectory]]
    ) -> list[list[Sample]]:
        """The experts of a step's tasks, as samples to be learnt from beside the tasks' rollouts.

        With "expert_row" the advantage is the expert's reward less the mean of the bare rollouts, which
        the expert does not change: Yan et al. 2025, arXiv:2504.14945 (LUFFY). A task without bare
        rollouts gives none.

        Args:
            tasks: Those of the step.
            groups: All rollouts of each.

        Returns:
            For each task its samples; none where its expert is left out.
        """
        if self.config.mix == "none":
            return [[] for _ in tasks]
        self._play_together(tasks)
        return [self._beside(task, group) for task, group in zip(tasks, groups, strict=True)]

    def expert(self, task: Task) -> Trajectory | None:
        """The trajectory of a task's expert; None for one that is left out."""
        if task.task_id not in self._known:
            self._keep(task, self._played(task))
        self._known.move_to_end(task.task_id)
        return self._known[task.task_id]

    def _play_together(self, tasks: Sequence[Task]) -> None:
        """Plays those that are not known yet, several at once: tools may be slow."""
        new = list(
            {task.task_id: task for task in tasks if task.task_id not in self._known}.values()
        )
        with ThreadPoolExecutor(
            self.config.num_workers, thread_name_prefix="maskgym-expert"
        ) as pool:
            for task, outcome in zip(new, pool.map(self._played, new), strict=True):
                self._keep(task, outcome)

    def _keep(self, task: Task, outcome: Trajectory | UnusableExpertError) -> None:
        self._known[task.task_id] = outcome if isinstance(outcome, Trajectory) else None
        if len(self._known) > _MAX_KEPT:
            self._known.popitem(last=False)
        if isinstance(outcome, Trajectory):
            self.num_played += 1
            return
        if not self.left_out[outcome.kind]:
            self._report(f"An expert is left out of imitation: {outcome}")
        self.left_out[outcome.kind] += 1

    def _beside(self, task: Task, group: Sequence[Trajectory]) -> list[Sample]:
        expert = self.expert(task)
        if expert is None:
            return []
        name, advantage = expert.group, self.config.mix_weight
        if self.config.mix == "expert_row":
            name = group_name(task.task_id)
            bare = [t.reward for t in group if t.is_trainable and t.group == name]
            if not bare:
                return []
            advantage = expert.reward - fmean(bare)
        return [
            Sample(sequence=sequence, advantage=advantage, group=name)
            for sequence in expert_sequences(expert)
        ]

    def _played(self, task: Task) -> Trajectory | UnusableExpertError:
        """What came of an expert; changes nothing here, so several may be under way."""
        draw = random.Random(f"{self._seed}|scaffold|{task.task_id}").random()
        is_shown = draw < self.config.scaffold_share
        lesson = Lesson(task=task, scaffold=self.config.scaffold_policy if is_shown else "")
        if task.expert_trace is None:
            return UnusableExpertError("no_trace", f"Task {task.task_id!r} has no expert trace.")
        with self._lock:
            env = self._envs.acquire()
        if not isinstance(env, TextEnv):
            raise ValueError(
                f"Experts are played in text environments of maskgym, not in {type(env).__name__}: only "
                "those know how an action is written. Turn the supervised stage off."
            )
        outcome: Trajectory | UnusableExpertError
        try:
            outcome = play_expert(env, self._chat, lesson, max_tokens=self._max_tokens)
        except UnusableExpertError as error:
            outcome = error
        except (
            Exception
        ) as error:  # an environment that broke is not used again; its neighbours go on
            return UnusableExpertError(
                "env_error", f"The environment of task {task.task_id!r} raised {error!r}."
            )
        self._envs.release(env)
        return outcome

    def _at(self, place: int) -> Trajectory:
        for task in self._candidates(place):
            trajectory = self.expert(task)
            if trajectory is not None:
                return trajectory
        counts = ", ".join(f"{kind} {count}" for kind, count in self.left_out.most_common())
        raise ValueError(
            f"None of {_MAX_SUBSTITUTES + 1} tasks has an expert to imitate (left out so far: {counts}). "
            "Give tasks with traces that solve them, or set num_steps of the supervised stage to 0."
        )

    def _candidates(self, place: int) -> Iterator[Task]:
        """The task of a place in the endless order, then substitutes of this place's own."""
        stream = TaskStream(self._tasks, seed=self._seed)
        stream.position = place
        yield next(stream)
        draw = random.Random(f"{self._seed}|substitute|{place}")
        for _ in range(_MAX_SUBSTITUTES):
            yield self._tasks[draw.randrange(len(self._tasks))]


def supervised_training(
    learner: Learner,
    make_batch: Callable[[], Sequence[TokenSequence]],
    *,
    num_steps: int,
    name: str = "imitation",
    report: Callable[[str], None] = print,
    should_stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Takes optimiser steps of imitation; whether all were taken (False: asked to stop).

    Args:
        learner: What learns.
        make_batch: Gives the sequences of one step.
        num_steps: Optimiser steps.
        name: What the progress lines call it.
        report: Takes one line of progress, about every tenth of the way.
        should_stop: Asked before each step.
    """
    started_s = time.perf_counter()
    every = max(1, num_steps // 10)
    for step in range(1, num_steps + 1):
        if should_stop():
            return False
        stats = learner.supervised_step(make_batch())
        if step % every == 0 or step == num_steps:
            report(
                f"  {name} {step:4d}/{num_steps}  loss {stats.loss:.3f}  "
                f"{time.perf_counter() - started_s:.0f} s"
            )
    return True
