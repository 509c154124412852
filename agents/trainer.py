"""A configuration in, a trained policy and its run folder out: the loop of rollout, loss, update.

One step: choose tasks, play the planner's rollouts, take advantages within each group, one optimiser
step, push the weights to the engine. Evaluations are bare. Killed at any moment, it resumes from the
last checkpoint to the same numbers (on CPU with `num_env_workers=0`, bit for bit).
"""

import random
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..envs import Task
from .advantages import group_advantages, is_zero_variance, moved_advantages
from .chat import Chat
from .engines.engine import Engine
from .env_pool import EnvPool
from .evaluation.evaluate import Evaluation, evaluate
from .guidance import GuidanceConfig, group_name, make_planner
from .learner import Learner, StepStats
from .rollout import RolloutConfig, RolloutInterruptedError, rollout_groups
from .run_folder import RunFolder, load_trainer_state, set_rng_state
from .trajectory import Trajectory


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """How long, how often, how many."""

    num_steps: int = 100
    """Optimiser steps of the run."""

    tasks_per_step: int = 16
    """Tasks played in each step; each gets the planner's group of rollouts."""

    seed: int = 0
    """Fixes the order of tasks and what is sampled."""

    eval_every: int = 20
    """Steps between bare evaluations; 0 for only the first and the last."""

    checkpoint_every: int = 10
    """Steps between checkpoints; the last step always has one."""

    keep_checkpoints: int = 2
    """Newest checkpoints that stay on disk."""

    trajectories_every: int = 1
    """Steps between saved trajectory files; 1 keeps every trajectory."""

    normalise_advantages: bool = True
    """Whether advantages are divided by the group's standard deviation."""

    max_logprob_gap: float = 0.1
    """Mean |trainer - engine| log-probability above which a warning is shown: stale weights, a wrong
    temperature, or a precision problem."""

    guidance: GuidanceConfig = field(default_factory=GuidanceConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)

    def __post_init__(self) -> None:
        for name in ("num_steps", "tasks_per_step", "checkpoint_every", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")


class Trainer:
    """Group-relative policy optimisation on text environments."""

    def __init__(
        self,
        *,
        learner: Learner,
        engine: Engine,
        chat: Chat,
        envs: EnvPool,
        eval_envs: EnvPool,
        train_tasks: Sequence[Task],
        eval_tasks: Sequence[Task],
        config: TrainerConfig,
        folder: RunFolder,
        report: Callable[[str], None] = print,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        if not train_tasks:
            raise ValueError("There is no task to train on.")
        self.learner = learner
        self.engine = engine
        self.chat = chat
        self.envs = envs
        self.eval_envs = eval_envs
        self.train_tasks = train_tasks
        self.eval_tasks = eval_tasks
        self.config = config
        self.folder = folder
        self.report = report
        self.should_stop = should_stop
        self.planner = make_planner(config.guidance)
        self.num_rollouts = 0
        self.step = 0

    def resume(self) -> None:
        """Puts back the state of the last checkpoint, and drops what came after it.

        The learner's model must have been loaded from that checkpoint's folder.
        """
        state = load_trainer_state(self.folder.last_checkpoint())
        self.step = int(state["step"])
        self.num_rollouts = int(state["num_rollouts"])
        self.learner.load_state_dict(state["learner"])
        self.folder.forget_after(self.step)
        set_rng_state(state["rng"])
        self.engine.update_weights(self.learner.named_weights(), version=self.step)

    def run(self) -> bool:
        """Trains up to `num_steps`; whether it got there (False: it was asked to stop)."""
        try:
            if self.step == 0:
                if not self.folder.metrics():  # else it was killed after this evaluation
                    self._evaluate()
                self._checkpoint()
            while self.step < self.config.num_steps:
                if self.should_stop():
                    raise RolloutInterruptedError([])
                self._train_step()
        except RolloutInterruptedError:
            self._checkpoint()  # weights are those of the last whole step
            return False
        return True

    def _train_step(self) -> None:
        config, step = self.config, self.step + 1
        started_s = time.perf_counter()
        tasks = self._tasks_of(step)
        trajectories = rollout_groups(
            self.engine,
            self.chat,
            self.envs,
            tasks,
            self.planner,
            config.rollout,
            seed=_mix(config.seed, step),
            should_stop=self.should_stop,
        )
        rollout_s = time.perf_counter() - started_s
        advantages, num_flat, num_groups = self._advantages(trajectories)
        used = [(t, a) for t, a in zip(trajectories, advantages, strict=True) if a is not None]
        stats = self.learner.policy_step([t.sequence() for t, _ in used], [a for _, a in used])
        self.engine.update_weights(self.learner.named_weights(), version=step)
        self.step = step
        self.num_rollouts += len(trajectories)
        row = self._metrics(trajectories, stats, num_flat, num_groups)
        times = {"rollout_s": rollout_s, "step_s": time.perf_counter() - started_s}
        if step % config.trajectories_every == 0 or step == config.num_steps:
            self.folder.write_trajectories(f"step-{step:06d}", trajectories)
        is_last = step == config.num_steps
        evaluation = None
        try:
            if is_last or (config.eval_every and step % config.eval_every == 0):
                evaluation = self._evaluate(write=False)
                row |= {f"eval/{k}": v for k, v in evaluation.to_row().items()}
        finally:  # an evaluation that is interrupted does not take the step's own numbers with it
            self.folder.append_metrics({**row, "time": times})
        if is_last or step % config.checkpoint_every == 0:
            self._checkpoint()
        self._say(row, times, evaluation)

    def _tasks_of(self, step: int) -> list[Task]:
        """The tasks of a step: a function of the seed and the step, so a resumed run continues it."""
        size, need = len(self.train_tasks), self.config.tasks_per_step
        chosen: list[Task] = []
        orders: dict[int, NDArray[np.int64]] = {}  # epoch -> order; a step may reach into the next
        for position in range((step - 1) * need, step * need):
            epoch, place = divmod(position, size)
            if size <= 100_000:
                if epoch not in orders:
                    rng = np.random.default_rng((self.config.seed, epoch))
                    orders[epoch] = rng.permutation(size)
                index = int(orders[epoch][place])
            else:
                index = random.Random(f"{self.config.seed}|{position}").randrange(size)
            chosen.append(self.train_tasks[index])
        return chosen

    def _advantages(
        self, trajectories: Sequence[Trajectory]
    ) -> tuple[list[float | None], int, int]:
        """Advantage of each trajectory, None where it is not trained on; flat groups and groups."""
        groups: dict[str, list[int]] = defaultdict(list)
        for i, trajectory in enumerate(trajectories):
            if trajectory.is_trainable:
                groups[trajectory.group].append(i)
        advantages: list[float | None] = [None] * len(trajectories)
        num_flat = 0
        for members in groups.values():
            if len(members) < 2:
                continue
            rewards = np.array([trajectories[i].reward for i in members])
            first = trajectories[members[0]]
            bare = [trajectories[i].reward for i in groups.get(group_name(first.task_id), ())]
            if first.is_guided and first.train_on == "bare" and bare:
                values = moved_advantages(rewards, baseline=float(np.mean(bare)))
                num_flat += not values.any()
            else:
                values = group_advantages(rewards, normalise=self.config.normalise_advantages)
                num_flat += is_zero_variance(rewards)
            for i, value in zip(members, values, strict=True):
                advantages[i] = float(value)
        return advantages, num_flat, len(groups)

    def _metrics(
        self,
        trajectories: Sequence[Trajectory],
        stats: StepStats,
        num_flat: int,
        num_groups: int,
    ) -> dict[str, Any]:
        bare = [t for t in trajectories if not t.is_guided]
        guided = [t for t in trajectories if t.is_guided]
        turns = [turn for t in trajectories for turn in t.turns]
        return {
            "step": self.step,
            "num_rollouts": self.num_rollouts,
            "reward/bare": _mean([t.reward for t in bare]),
            "reward/guided": _mean([t.reward for t in guided]),
            "guided_share": len(guided) / len(trajectories),
            "zero_variance_groups": num_flat / max(num_groups, 1),
            "num_failed": sum(not t.is_trainable for t in trajectories),
            "truncated_share": _mean([float(t.end_reason != "answered") for t in trajectories]),
            "invalid_action_share": _mean([float(turn.action == "invalid") for turn in turns]),
            "tool_error_share": _mean([float(bool(turn.tool_error)) for turn in turns]),
            "mean_turns": len(turns) / len(trajectories),
            "mean_action_tokens": _mean([float(t.num_action_tokens) for t in trajectories]),
            **{f"train/{name}": value for name, value in asdict(stats).items()},
        }

    def _evaluate(self, *, write: bool = True) -> Evaluation:
        evaluation, trajectories = evaluate(
            self.engine,
            self.chat,
            self.eval_envs,
            self.eval_tasks,
            replace(self.config.rollout, temperature=0.0),
            should_stop=self.should_stop,
        )
        self.folder.write_trajectories(f"eval-{self.step:06d}", trajectories)
        if write:
            row = {f"eval/{k}": v for k, v in evaluation.to_row().items()}
            self.folder.append_metrics(
                {"step": self.step, "num_rollouts": self.num_rollouts, **row}
            )
            self.report(f"step {self.step:4d}  bare accuracy {evaluation.accuracy}")
        return evaluation

    def _checkpoint(self) -> None:
        state = {
            "step": self.step,
            "num_rollouts": self.num_rollouts,
            "learner": self.learner.state_dict(),
        }
        self.folder.save_checkpoint(
            self.step,
            model=self.learner.model,
            tokenizer=self.chat.tokenizer,
            state=state,
            keep=self.config.keep_checkpoints,
        )

    def _say(
        self, row: dict[str, Any], times: dict[str, float], evaluation: Evaluation | None
    ) -> None:
        rewards = "  ".join(
            f"{name} {row[f'reward/{name}']:.2f}"
            for name in ("bare", "guided")
            if row[f"reward/{name}"] is not None
        )
        line = (
            f"step {self.step:4d}/{self.config.num_steps}  reward {rewards}  "
            f"flat groups {row['zero_variance_groups']:.0%}  entropy {row['train/entropy']:.2f}  "
            f"gap {row['train/logprob_gap']:.1e}  {times['step_s']:.1f} s"
        )
        if evaluation is not None:
            line += f"  | bare accuracy {evaluation.accuracy}"
        self.report(line)
        if row["train/logprob_gap"] > self.config.max_logprob_gap:
            self.report(
                f"warning: engine and trainer differ by {row['train/logprob_gap']:.3f} nats a token; "
                "stale engine weights, another temperature, or too low a precision."
            )


def seed_everything(seed: int) -> None:
    """Seeds the generators that libraries may use; ours take explicit seeds."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _mix(seed: int, step: int) -> int:
    return seed * 1_000_003 + step
