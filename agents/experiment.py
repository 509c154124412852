"""One configuration in, everything that a run needs out: tasks, environments, model, engine, trainer.

`maskgym train`, `maskgym eval` and `maskgym demo` are thin layers over this file.
"""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium

from ..envs import (
    Domain,
    EpisodeConfig,
    SearchConfig,
    TaskSource,
    TextEnv,
    XMLProtocol,
    find_env_id,
    load_tasks,
    resolve_tasks,
)
from .chat import Chat, ChatConfig, load_tokenizer
from .config import config_from_dict
from .engine import Engine, EngineConfig, as_config, open_engine
from .env_pool import EnvPool
from .learner import Learner, LearnerConfig, load_model
from .run_folder import RunFolder
from .trainer import Trainer, TrainerConfig, seed_everything


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """A whole training run."""

    env_id: str
    """Registered environment, such as "maskgym/Search-v0"."""

    model: str
    """Folder of the model to start from."""

    train_tasks: str
    """What to train on: a file of rows, or a testbed such as "testbed:level=2,split=train"."""

    eval_tasks: str
    """What to evaluate on, bare; in the same form."""

    mapping: str = ""
    """Column mapping of the files; empty to guess it from the columns."""

    skip_bad_rows: bool = False
    """Leave bad rows of the files out, with a warning, instead of stopping at the first."""

    num_train_tasks: int | None = None
    """Use only so many of the training tasks; None for all."""

    num_eval_tasks: int | None = 256
    """Use only so many of the evaluation tasks; None for all."""

    index: str = ""
    """Folder of the search index of the training tasks; empty for the testbed's own pages."""

    eval_index: str = ""
    """Folder of the search index of the evaluation tasks; empty for the one of the training tasks."""

    episode: EpisodeConfig = field(default_factory=EpisodeConfig)
    """Budgets of an episode, and what the model is told about them."""

    protocol: XMLProtocol = field(default_factory=XMLProtocol)
    """How actions are written."""

    search: SearchConfig | None = None
    """How the search environment searches; None for its default, and in other environments."""

    env_kwargs: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the environment."""

    engine: str = "auto"
    """"vllm", "transformers", or "auto" (vLLM where it is installed)."""

    dtype: str = "float32"
    """Precision of model and engine: float32 or bfloat16."""

    max_model_len: int = 2048
    """Tokens of a whole episode, observations included."""

    max_num_seqs: int = 128
    """Episodes that the engine decodes at once."""

    chat: ChatConfig = field(default_factory=ChatConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)


def load_experiment(values: dict[str, Any]) -> ExperimentConfig:
    """The configuration that a run folder saved."""
    return config_from_dict(ExperimentConfig, values)


def make_env(config: ExperimentConfig, tasks: TaskSource, *, index: str = "") -> TextEnv:
    """The environment of a run over some tasks, without its Gymnasium wrappers."""
    kwargs: dict[str, Any] = {
        "tasks": tasks,
        "config": config.episode,
        "protocol": config.protocol,
        **config.env_kwargs,
    }
    if config.search is not None:
        kwargs["search"] = config.search
    if index:
        kwargs["retriever"] = index
    env_id = find_env_id(config.env_id)
    env = gymnasium.make(env_id, disable_env_checker=True, **kwargs).unwrapped
    if not isinstance(env, TextEnv):
        raise ValueError(
            f"{config.env_id!r} is no maskgym text environment; train on one, or wrap it in a TextEnv."
        )
    return env


def env_domain(env_id: str) -> Domain:
    """The domain of a registered text environment: it says how files of tasks are read."""
    entry_point = gymnasium.registry[find_env_id(env_id).rpartition(":")[2]].entry_point
    kind = (
        gymnasium.envs.registration.load_env_creator(entry_point)
        if isinstance(entry_point, str)
        else entry_point
    )
    return Domain(getattr(kind, "domain", Domain.MATH))


def task_source(spec: str, config: ExperimentConfig) -> TaskSource:
    """Tasks of a run by their description: a file of rows, or a testbed such as "testbed:level=2"."""
    domain = env_domain(config.env_id)
    if spec.startswith("testbed"):
        return resolve_tasks(spec, domain)
    return load_tasks(
        spec,
        domain=domain,
        mapping=config.mapping or None,
        on_bad_row="skip" if config.skip_bad_rows else "raise",
    )


def with_stop_strings(config: ExperimentConfig, env: TextEnv) -> ExperimentConfig:
    """The configuration with the stop strings of the environment's protocol filled in."""
    if config.trainer.rollout.stop:
        return config
    rollout = replace(config.trainer.rollout, stop=tuple(env.stop_strings))
    return replace(config, trainer=replace(config.trainer, rollout=rollout))


def make_engine(
    model: str | Path,
    config: ExperimentConfig,
    *,
    learner: Learner | None = None,
    report: Callable[[str], None] = print,
) -> Engine:
    """The engine of a run; the Transformers engine samples from the learner's own weights.

    Under "auto", a vLLM that is installed but does not start here (an old processor, say) gives way to
    Transformers, and `report` says so.
    """
    shared = EngineConfig(
        max_model_len=config.max_model_len, max_num_seqs=config.max_num_seqs, dtype=config.dtype
    )
    name = config.engine
    if name == "auto":
        name = "transformers"
        if importlib.util.find_spec("vllm") is not None:
            try:
                return open_engine(model, name="vllm", config=shared)
            except (ImportError, OSError, RuntimeError) as error:
                report(f"vLLM does not start here ({error}); sampling with Transformers instead.")
    if learner is None or name != "transformers":
        return open_engine(model, name=name, config=shared)
    from .transformers_engine import TransformersEngine, TransformersEngineConfig

    return TransformersEngine(
        learner.model,
        tokenizer=load_tokenizer(model),
        config=as_config(TransformersEngineConfig, shared),
    )


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
        config = with_stop_strings(config, first_env)
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
            config=config.trainer,
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
