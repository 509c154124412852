"""A configuration in, a trained policy and its run folder out: the loop of rollout, loss, update.

One step: take tasks, play the planner's rollouts, take advantages within each group, update the
weights, hand them to the engine. Supervised steps on expert traces may come first. Evaluations are
bare. Killed at any moment, a run resumes from the last checkpoint to the same numbers (on CPU with
`num_env_workers=0`, bit for bit). Under torchrun each rank plays its share of the tasks, and the
numbers are those of one rank with all of them.
"""

import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from itertools import chain
from typing import Any

from ..envs import Task
from .alarms import alarms_of
from .checkpoints import (
    CheckpointError,
    has_finite_weights,
    load_checkpoint,
    rng_state,
    save_checkpoint,
    set_rng_state,
)
from .distributed import World
from .engines.engine import Engine
from .evaluation.evaluate import Evaluation, evaluate, summarise
from .guidance.config import make_planner
from .guidance.supervised import SupervisedStage
from .learning.credit import credit
from .learning.learner import Learner
from .learning.step_stats import StepStats
from .played_tasks import PlayedTask, play_tasks
from .rollouts.chat import Chat
from .rollouts.env_pool import EnvPool
from .rollouts.rollout import RolloutCounts, RolloutFailedError, RolloutInterruptedError
from .rollouts.trajectory import Trajectory
from .run_folder import RunFolder
from .run_records import RunRecords
from .step_metrics import Row, rollout_metrics, step_line
from .task_stream import TaskStream
from .trainer_config import TrainerConfig


class NothingWorksError(RuntimeError):
    """Rollout after rollout was ended by an error: an environment or a service is broken."""


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
        progress: Callable[[str], None] = lambda line: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.world: World = learner.world
        if config.tasks_per_step % self.world.size:
            raise ValueError(
                f"tasks_per_step is {config.tasks_per_step}, which {self.world.size} ranks cannot share "
                "out evenly; make it a multiple."
            )
        self.learner = learner
        self.engine = engine
        self.chat = chat
        self.envs = envs
        self.eval_envs = eval_envs
        self.eval_tasks = eval_tasks
        self.config = config
        self.folder = folder
        self.report = report if self.world.is_main else _nothing
        self.progress = progress if self.world.is_main else _nothing
        self.should_stop = should_stop
        self.planner = make_planner(config.guidance)
        self.stream = TaskStream(
            train_tasks, seed=config.seed, rank=self.world.rank, size=self.world.size
        )
        self.experts = SupervisedStage(
            envs,
            chat,
            train_tasks,
            config.supervised,
            max_tokens=engine.max_model_len,
            seed=config.seed,
            report=self.report,
        )
        self.step = 0
        self.supervised_step = 0
        self.num_rollouts = 0
        self.best_accuracy = -1.0
        self.records = RunRecords(
            folder, lambda line: self.report(line), is_writer=self.world.is_main
        )
        self._num_failed_steps = 0
        self._ringing: set[str] = set()  # alarms of the last step
        self._is_resumed = False
        self._unevaluated: dict[str, Any] | None = None  # a step whose evaluation was interrupted

    def resume(self) -> None:
        """Puts back the state of the last checkpoint, and drops the records of what came after it.

        The learner's model must have been loaded as `Learner.load_state_dict` says.
        """
        state = load_checkpoint(
            self.folder.last_checkpoint(), learner=self.learner, world=self.world
        )
        self.step = int(state["step"])
        self.supervised_step = int(state["supervised_step"])
        self.num_rollouts = int(state["num_rollouts"])
        self.best_accuracy = float(state["best_accuracy"])
        self._unevaluated = state.get("unevaluated")
        self._is_resumed = True
        # Another number of ranks than before goes on behind the last task that one of them took.
        taken = max(state["positions"]) * len(state["positions"])
        self.stream.position = -(-taken // self.world.size)
        self.planner.load_state_dict(state["planner"])
        rngs = state["rngs"]
        set_rng_state(rngs[self.world.rank % len(rngs)])
        if self.world.is_main:
            self.folder.forget_after(self.step, supervised_step=self.supervised_step)
        self.world.barrier()

    def run(self) -> bool:
        """Trains up to `num_steps`; whether it got there (False: it was asked to stop)."""
        self.records.open(
            self.config.trackers, first_step=self.step + 1, is_resumed=self._is_resumed
        )
        try:
            # A resumed run has other weights than its folder; a server elsewhere may have another run's.
            self._push_weights()
            self._imitate()
            if self.step == 0 and not self._has_first_evaluation():
                evaluation = self._evaluate()
                self.best_accuracy = evaluation.accuracy.mean
                self._log({}, evaluation)
                self._checkpoint(is_best=True)
            if owed := self._unevaluated:
                if self.world.is_main:
                    self.folder.forget_row(self.step)
                self._finish_step(**owed)
            while self.step < self.config.num_steps:
                self._stop_if_asked()
                position, planner = self.stream.position, deepcopy(self.planner.state_dict())
                try:
                    row, times = self._train_step()
                except Exception:  # a resumed run plays the same tasks again
                    self.stream.position = position
                    self.planner.load_state_dict(planner)
                    raise
                self._finish_step(row, times)
                self._end_if_all_fail(row)
        except RolloutInterruptedError:
            self._checkpoint()  # weights are those of the last whole step
            return False
        except (RolloutFailedError, FloatingPointError):
            if self.world.size == 1:  # other ranks do not know and would not come to this call
                self._checkpoint()
            raise
        finally:
            self.records.close()
        return True

    def _imitate(self) -> None:
        """The supervised stage, or what is left of it."""
        config = self.config.supervised
        if self.supervised_step >= config.num_steps:
            return
        rank, size = self.world.rank, self.world.size
        while self.supervised_step < config.num_steps:
            self._stop_if_asked()
            batch = self.experts.batch(self.supervised_step + 1, rank=rank, size=size)
            stats = self.learner.supervised_step(batch, lr=config.lr_at(self.supervised_step))
            self.supervised_step += 1
            line = (
                f"expert traces {self.supervised_step}/{config.num_steps}  loss {stats.loss:.3f}  "
                f"{stats.times.total_s:.1f} s"
            )
            is_last = self.supervised_step == config.num_steps
            (self.report if is_last else self.progress)(line)
            row: Row = {"supervised/loss": stats.loss}
            where = {"step": 0, "num_rollouts": 0, "supervised_step": self.supervised_step}
            self.records.log(where, row, None)
            if self.supervised_step % self.config.checkpoint_every == 0 and not is_last:
                self._checkpoint()
        self.learner.restart()
        self._push_weights()
        self._checkpoint()

    def _train_step(self) -> tuple[Row, dict[str, float]]:
        """Rollouts and updates; the step's numbers and times."""
        config, step = self.config, self.step + 1
        started_s = time.perf_counter()
        self.planner.step = step
        counts = RolloutCounts()
        played = play_tasks(
            self.engine,
            self.chat,
            self.envs,
            self.stream,
            self.planner,
            config,
            self.world,
            seed=_mix(config.seed, step),
            should_stop=self.should_stop,
            on_finished=self._progress_of(step),
            counts=counts,
        )
        rollout_s = time.perf_counter() - started_s
        if sleep := getattr(self.engine, "sleep", None):  # engines that may lend the GPU's memory
            sleep()
        stats, row = self._learn(played)
        pushed_s = time.perf_counter()
        self._push_weights(version=step)
        trajectories = list(chain.from_iterable(each.trajectories for each in played))
        self.step = step
        self.num_rollouts += len(trajectories)
        metrics = rollout_metrics(trajectories, counts)
        row = metrics | row | {f"train/{name}": value for name, value in stats.metrics().items()}
        ended_s = time.perf_counter()
        times = {
            "rollout_s": rollout_s,
            "update_s": stats.times.total_s,
            "push_s": ended_s - pushed_s,
            "step_s": ended_s - started_s,
            "sampled_tokens_per_s": (metrics["num_sampled_tokens"] or 0) / rollout_s,
            "trained_tokens_per_s": stats.num_tokens / max(stats.times.total_s, 1e-9),
            "scoring_s": stats.times.scoring_s,
            "gradients_s": stats.times.gradients_s,
            "optimiser_s": stats.times.optimiser_s,
        }
        if step % config.trajectories_every == 0 or step == config.num_steps:
            self.records.save(f"step-{step:06d}", trajectories)
        return row, times

    def _end_if_all_fail(self, row: Row) -> None:
        """Ends a run in which nothing works any more; a bad step, or a bad task, does not."""
        self._num_failed_steps = self._num_failed_steps + 1 if row["failed_share"] == 1 else 0
        if self._num_failed_steps >= self.config.max_failed_steps:
            self._checkpoint()
            raise NothingWorksError(
                f"Every rollout of the last {self._num_failed_steps} steps was ended by an error; the "
                "warnings above say which. Mend it and resume the run: it goes on from here."
            )

    def _finish_step(self, row: Row, times: dict[str, float]) -> None:
        """Evaluates where it is time to, writes the step's line, and keeps a checkpoint."""
        config, step = self.config, self.step
        is_last = step == config.num_steps
        evaluation, is_best = None, False
        try:
            if is_last or (config.eval_every and step % config.eval_every == 0):
                self._unevaluated = {"row": row, "times": times}
                evaluation = self._evaluate()
                is_best = evaluation.accuracy.mean >= self.best_accuracy  # of equals the newest
                self.best_accuracy = max(self.best_accuracy, evaluation.accuracy.mean)
                self._unevaluated = None
        finally:  # an evaluation that is interrupted does not take the step's own numbers with it
            self._log(row, evaluation, times=times)
        if is_last or is_best or step % config.checkpoint_every == 0:
            self._checkpoint(is_best=is_best)

    def _learn(self, played: Sequence[PlayedTask]) -> tuple[StepStats, Row]:
        """The updates that a step's rollouts give, and the numbers of their groups."""
        for each in played:
            self.planner.update(each.outcome)
        wanted = [each for each in played if each.is_wanted]
        groups = [self.planner.trained(each.trajectories) for each in wanted]
        credited = credit(
            groups,
            self.config.advantages,
            self.config.filters,
            played=[each.trajectories for each in wanted],
        )
        own = [i for i, each in enumerate(wanted) if each.rank == self.world.rank]
        samples = [sample for i in own for sample in credited.samples[i]]
        experts = self.experts.mixed(
            [wanted[i].task for i in own], [wanted[i].trajectories for i in own]
        )
        for i, rows in zip(own, experts, strict=True):  # in the group that `credit` named
            samples += [replace(row, group=f"{i}|{row.group}") for row in rows]
        stats = self.learner.policy_update(samples)
        guidance = self.planner.metrics([each.outcome for each in played])
        return stats, {**credited.metrics, **guidance}

    def _evaluate(self) -> Evaluation:
        """A bare evaluation, shared out among the ranks; its trajectories are saved."""
        rank, size = self.world.rank, self.world.size
        own, is_interrupted = self.eval_tasks[rank::size], False
        played: list[Trajectory] = []
        try:
            if own:
                config = replace(self.config.rollout, temperature=0.0)
                _, played = evaluate(
                    self.engine,
                    self.chat,
                    self.eval_envs,
                    own,
                    config,
                    should_stop=self.should_stop,
                )
        except RolloutInterruptedError:
            is_interrupted = True
        if self.world.max(int(is_interrupted)):
            raise RolloutInterruptedError([])
        shares = self.world.gather(played)
        trajectories = [shares[i % size][i // size] for i in range(len(self.eval_tasks))]
        self.records.save(f"eval-{self.step:06d}", trajectories)
        return summarise(self.eval_tasks, trajectories)

    def _progress_of(self, step: int) -> Callable[[list[Trajectory]], None]:
        """Shows how far this rank's rollouts of a step are."""
        started_s = time.perf_counter()
        num_rollouts = num_tokens = 0

        def show(group: list[Trajectory]) -> None:
            nonlocal num_rollouts, num_tokens
            num_rollouts += len(group)
            num_tokens += sum(trajectory.num_action_tokens for trajectory in group)
            seconds = time.perf_counter() - started_s
            self.progress(
                f"step {step}/{self.config.num_steps}  {num_rollouts} rollouts  "
                f"{num_tokens / seconds:,.0f} tok/s  {seconds:.0f} s"
            )

        return show

    def _log(
        self, row: Row, evaluation: Evaluation | None, *, times: dict[str, float] | None = None
    ) -> None:
        if evaluation is not None:
            row = row | {f"eval/{k}": v for k, v in evaluation.to_row().items()}
        where = {"step": self.step, "num_rollouts": self.num_rollouts}
        self.records.log(where, row, times)
        self.report(step_line(self.step, self.config.num_steps, row, times, evaluation))
        alarms = alarms_of(row, self.config.alarms)
        for name, text in alarms.items():
            if name not in self._ringing:  # once, and again when it comes back
                self.report(f"warning: {text}.")
        if times:
            self._ringing = set(alarms)

    def _checkpoint(self, *, is_best: bool = False) -> None:
        # It must not be ahead of the records: a resumed run writes none for what lies behind it.
        if self.world.max(int(not self.records.is_complete())):
            self.report("warning: No checkpoint until the records are written.")
            return
        if self.world.max(int(not has_finite_weights(self.learner.model))):
            self.report(
                "warning: Weights are not finite; the checkpoints of before are kept as they are."
            )
            return
        state = {
            "step": self.step,
            "supervised_step": self.supervised_step,
            "num_rollouts": self.num_rollouts,
            "best_accuracy": self.best_accuracy,
            "unevaluated": self._unevaluated,
            "planner": self.planner.state_dict(),
            "positions": self.world.gather(self.stream.position),
            "rngs": self.world.gather(rng_state()),
        }
        try:
            save_checkpoint(
                self.folder.checkpoints_path,
                self.step,
                learner=self.learner,
                tokenizer=self.chat.tokenizer,
                state=state,
                world=self.world,
                keep=self.config.keep_checkpoints,
                is_best=is_best,
            )
        except CheckpointError as error:
            self.report(f"warning: {error} The run goes on.")

    def _has_first_evaluation(self) -> bool:
        """Whether this run made the evaluation before the first step before it was killed."""
        rows = self.folder.metrics() if self.world.is_main else []
        return bool(self.world.max(int(any("eval/accuracy" in row for row in rows))))

    def _push_weights(self, *, version: int | None = None) -> None:
        version = self.step if version is None else version
        self.engine.update_weights(self.learner.named_weights(), version=version)

    def _stop_if_asked(self) -> None:
        if self.world.max(int(self.should_stop())):
            raise RolloutInterruptedError([])


def _mix(seed: int, step: int) -> int:
    return seed * 1_000_003 + step


def _nothing(line: str) -> None:
    """Says nothing: only the first rank speaks."""
