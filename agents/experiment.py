"""One configuration in, a trainer with everything it needs out: tasks, environments, model, engine.

`maskgym train` and `maskgym demo` are thin layers over this file.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from ..envs import TextEnv
from .chat import Chat, load_tokenizer
from .config import config_from_dict
from .engines.engine import Engine
from .env_pool import EnvPool
from .learner import Learner, LearnerConfig, load_model
from .play_config import PlayConfig, make_engine, make_env, task_source, with_stop_strings
from .run_folder import RunFolder
from .trainer import Trainer, TrainerConfig, seed_everything


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig(PlayConfig):
    """A whole training run."""

    train_tasks: str
    """What to train on: a file of rows, or a testbed such as "testbed:level=2,split=train"."""

    eval_tasks: str
    """What to evaluate on, bare; in the same form."""

    num_train_tasks: int | None = None
    """Use only so many of the training tasks; None for all."""

    num_eval_tasks: int | None = 256
    """Use only so many of the evaluation tasks; None for all."""

    eval_index: str = ""
    """Search index of the evaluation tasks; empty for the one of the training tasks."""

    learner: LearnerConfig = field(default_factory=LearnerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)


def load_experiment(values: dict[str, Any]) -> ExperimentConfig:
    """The configuration that a run folder saved."""
    return config_from_dict(ExperimentConfig, values)


@contextmanager
def open_trainer(
    config: ExperimentConfig,
    folder: RunFolder,
    *,
    is_resumed: bool = False,
    report: Callable[[str], None] = print,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Trainer]:
    """A trainer with everything it needs, closed at the end.

    Args:
        config: The run.
        folder: Where its records go.
        is_resumed: Go on from the folder's last checkpoint.
        report: Takes one line of progress.
        should_stop: Asked between decoding steps; the run then ends with a checkpoint.
    """
    seed_everything(config.trainer.seed)
    model_dir = folder.last_checkpoint() if is_resumed else Path(config.model)
    sources = [task_source(spec, config) for spec in (config.train_tasks, config.eval_tasks)]
    indexes = (config.index, config.eval_index or config.index)
    train_envs, eval_envs = (
        EnvPool(partial(make_env, config, source, index=index))
        for source, index in zip(sources, indexes, strict=True)
    )
    engine: Engine | None = None
    try:
        first_env = train_envs.acquire()
        assert isinstance(first_env, TextEnv)
        rollout = with_stop_strings(config.trainer.rollout, first_env)
        train_envs.release(first_env)
        model = load_model(model_dir, dtype=config.dtype)
        temperature = config.trainer.rollout.temperature or 1.0
        learner = Learner(model, config.learner, temperature=temperature)
        engine = make_engine(model_dir, config, learner=learner, report=report)
        trainer = Trainer(
            learner=learner,
            engine=engine,
            chat=Chat(load_tokenizer(model_dir), config.chat),
            envs=train_envs,
            eval_envs=eval_envs,
            train_tasks=sources[0][: config.num_train_tasks],
            eval_tasks=sources[1][: config.num_eval_tasks],
            config=replace(config.trainer, rollout=rollout),
            folder=folder,
            report=report,
            should_stop=should_stop,
        )
        if is_resumed:
            trainer.resume()
        yield trainer
    finally:
        train_envs.close()
        eval_envs.close()
        if engine is not None:
            engine.close()
