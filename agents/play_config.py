"""One configuration in, what an episode needs out: tasks, environments, the engine that samples.

Training and evaluation have this in common. Imports no torch: an evaluation of an endpoint needs none.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium

from ..envs import (
    Domain,
    EpisodeConfig,
    JSONProtocol,
    SearchConfig,
    TaskSource,
    TextEnv,
    XMLProtocol,
    find_env_id,
    load_tasks,
    resolve_tasks,
)
from .config import config_from_dict
from .engines.engine import Engine, EngineConfig, open_engine
from .rollouts.chat import ChatConfig, load_tokenizer
from .rollouts.rollout_config import RolloutConfig
from .sampled_tasks import is_sampled, sampled_tasks

if TYPE_CHECKING:
    from .learning.learner import Learner


@dataclass(frozen=True, kw_only=True)
class PlayConfig:
    """What is played, and what samples."""

    env_id: str
    """Registered environment, such as "maskgym/Search-v0"."""

    model: str
    """Folder of the model to start from; empty where something else plays."""

    mapping: str = ""
    """Column mapping of the files of tasks; empty to guess it from the columns."""

    skip_bad_rows: bool = False
    """Leave bad rows of the files out, with a warning, instead of stopping at the first."""

    index: str = ""
    """Search index: a folder, or the address of a service; empty for the testbed's own pages."""

    episode: EpisodeConfig = field(default_factory=EpisodeConfig)
    """Budgets of an episode, and what the model is told about them."""

    protocol: XMLProtocol = field(default_factory=XMLProtocol)
    """How actions are written: in tags."""

    json_protocol: JSONProtocol | None = None
    """How actions are written as JSON tool calls, instead of in tags; None for tags."""

    search: SearchConfig | None = None
    """How the search environment searches; None for its default, and in other environments."""

    env_kwargs: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the environment."""

    engine: str = "auto"
    """"vllm", "transformers", "remote" (vLLM servers), or "auto" (vLLM where it is installed)."""

    engine_options: dict[str, Any] = field(default_factory=dict)
    """Further settings of the engine, as in its configuration: `VLLMEngineConfig`, `RemoteEngineConfig`."""

    dtype: str = "float32"
    """Precision of model and engine: float32 or bfloat16."""

    max_model_len: int = 2048
    """Tokens of a whole episode, observations included."""

    max_num_seqs: int = 128
    """Episodes that the engine decodes at once."""

    chat: ChatConfig = field(default_factory=ChatConfig)


def make_env(config: PlayConfig, tasks: TaskSource | None, *, index: str = "") -> TextEnv:
    """The environment of a run over some tasks (None: its own), without its Gymnasium wrappers."""
    kwargs: dict[str, Any] = {
        **({} if tasks is None else {"tasks": tasks}),
        "config": config.episode,
        "protocol": config.json_protocol or config.protocol,
        **config.env_kwargs,
    }
    if config.search is not None:
        kwargs["search"] = config.search
    if index:
        kwargs["retriever"] = index
    env_id = find_env_id(config.env_id)
    try:
        env = gymnasium.make(env_id, disable_env_checker=True, **kwargs).unwrapped
    except TypeError as error:
        text = str(error).partition(" was raised from the environment creator")[0]
        raise ValueError(
            f"{config.env_id!r} cannot be made with {', '.join(sorted(kwargs))}: {text}. A maskgym text "
            "environment hands these on to TextEnv; `env_kwargs` holds arguments of its own."
        ) from error
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


def task_source(spec: str, config: PlayConfig) -> TaskSource:
    """Tasks of a run by their description: a file, "testbed:level=2", "bench:nq", or "env"."""
    if is_sampled(spec):
        return sampled_tasks(spec, make_env(config, None))
    domain = env_domain(config.env_id)
    if spec.startswith(("testbed", "bench:")):
        return resolve_tasks(spec, domain)
    return load_tasks(
        spec,
        domain=domain,
        mapping=config.mapping or None,
        on_bad_row="skip" if config.skip_bad_rows else "raise",
    )


def with_stop_strings(rollout: RolloutConfig, env: TextEnv) -> RolloutConfig:
    """The sampling of a run with the stop strings of the environment's protocol filled in."""
    return rollout if rollout.stop else replace(rollout, stop=tuple(env.stop_strings))


def engine_name(config: PlayConfig) -> str:
    """The engine that a run begins with: under "auto" vLLM where it is installed."""
    if config.engine != "auto":
        return config.engine
    return "transformers" if importlib.util.find_spec("vllm") is None else "vllm"


def make_engine(
    model: str | Path,
    config: PlayConfig,
    *,
    learner: "Learner | None" = None,
    is_sender: bool = True,
    report: Callable[[str], None] = print,
) -> Engine:
    """The engine of a run; the Transformers engine samples from the learner's own weights where it can.

    Under "auto", a vLLM that is installed but does not start here (an old processor, say) gives way to
    Transformers, and `report` says so. Of several trainer processes with the same servers one sends them
    the weights (`is_sender`).

    Raises:
        ValueError: If an engine option is misspelt or has a bad value.
    """
    name = engine_name(config)
    if config.engine == "auto" and name == "vllm":
        try:
            return open_engine(model, name=name, config=_engine_config(config, name))
        except (ImportError, OSError, RuntimeError) as error:
            report(f"vLLM does not start here ({error}); sampling with Transformers instead.")
            name, config = "transformers", replace(config, engine_options={})  # they were vLLM's
    settings = _engine_config(config, name, is_sender=is_sender)
    if name != "transformers" or learner is None or not learner.is_shareable:
        return open_engine(model, name=name, config=settings)
    from .engines.transformers_engine import TransformersEngine, TransformersEngineConfig

    assert isinstance(settings, TransformersEngineConfig)
    return TransformersEngine(learner.model, tokenizer=load_tokenizer(model), config=settings)


def _engine_config(config: PlayConfig, name: str, *, is_sender: bool = True) -> EngineConfig:
    kind: type[EngineConfig]
    if name == "vllm":
        from .engines.vllm_engine import VLLMEngineConfig as kind
    elif name == "remote":
        from .engines.remote_engine import RemoteEngineConfig as kind
    elif name == "transformers":
        from .engines.transformers_engine import TransformersEngineConfig as kind
    else:
        kind = EngineConfig  # `open_engine` names the nearest
    shared: dict[str, Any] = {
        "max_model_len": config.max_model_len,
        "max_num_seqs": config.max_num_seqs,
        "dtype": config.dtype,
    }
    if name == "remote":
        shared["is_sender"] = is_sender
    return config_from_dict(kind, shared | config.engine_options, place="engine_options.")
