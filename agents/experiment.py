"""One configuration in, a trainer with everything it needs out: tasks, environments, model, engine.

`maskgym train` and `maskgym demo` are thin layers over this file.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from ..envs import TextEnv
from .config import config_from_dict
from .distributed import World, open_world
from .engines.engine import Engine, check_model_dir, is_out_of_memory
from .learning.learner import Learner
from .learning.learner_config import LearnerConfig
from .learning.model_folder import load_model
from .play_config import (
    PlayConfig,
    engine_name,
    make_engine,
    make_env,
    task_source,
    with_stop_strings,
)
from .rollouts.chat import Chat, Tokenizer, load_tokenizer
from .rollouts.env_pool import EnvPool
from .run_folder import RunFolder
from .tiny_model import TinyModelConfig
from .trainer import Trainer
from .trainer_config import TrainerConfig


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

    new_model: TinyModelConfig = field(default_factory=TinyModelConfig)
    """Size and tokenizer of the model that "new" makes, with the run's seed and at least its context; the
    tags of the protocols are its extra tokens where none are named."""

    num_ranks: int = 1
    """Processes on this machine, one a GPU, that share tasks, weights and optimiser."""

    learner: LearnerConfig = field(default_factory=LearnerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)

    def __post_init__(self) -> None:
        for name in ("num_train_tasks", "num_eval_tasks", "num_ranks"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} is {value}; give at least 1.")
        trainer, rollout = self.trainer, self.trainer.rollout
        if trainer.tasks_per_step % self.num_ranks:
            raise ValueError(
                f"tasks_per_step is {trainer.tasks_per_step}, which {self.num_ranks} ranks cannot share "
                "out evenly; make it a multiple."
            )
        if self.learner.updates_per_batch > trainer.tasks_per_step:
            raise ValueError(
                f"updates_per_batch is {self.learner.updates_per_batch} and tasks_per_step "
                f"{trainer.tasks_per_step}: each update takes whole tasks, and some would have none. "
                "Play more tasks a step, or make fewer updates."
            )
        if rollout.max_tokens_per_turn >= self.max_model_len:
            raise ValueError(
                f"max_tokens_per_turn is {rollout.max_tokens_per_turn} and max_model_len "
                f"{self.max_model_len}: an action could fill the context and leave no room for its "
                "prompt. Lower the one (--max-tokens) or raise the other (--max-model-len)."
            )
        if not rollout.temperature > 0:
            raise ValueError(
                f"temperature is {rollout.temperature}; training needs samples that differ, so give one "
                "above 0, such as 1. Evaluations are greedy whatever it is."
            )


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
    progress: Callable[[str], None] = lambda line: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Trainer]:
    """A trainer with everything it needs, closed at the end. Under torchrun, one of its ranks.

    Args:
        config: The run.
        folder: Where its records go.
        is_resumed: Go on from the folder's last checkpoint.
        report: Takes a line that stays.
        progress: Takes a line that is replaced by the next one.
        should_stop: Asked between decoding steps; the run then ends with a checkpoint.

    Raises:
        ValueError: If tasks, model and tokenizer do not go together.
        FileNotFoundError: If a model, index or file of tasks is not there.
    """
    seed_everything(config.trainer.seed)
    model_dir = Path(config.model)
    if is_resumed and config.learner.lora is None:  # else the checkpoint holds the adapters
        model_dir = folder.last_checkpoint() / "model"
        if not model_dir.is_dir():
            raise FileNotFoundError(
                f"{str(model_dir.parent)!r} holds no model: it is no whole checkpoint. Move it away; the "
                "run then resumes from the one before it."
            )
    sources = [task_source(spec, config) for spec in (config.train_tasks, config.eval_tasks)]
    indexes = (config.index, config.eval_index or config.index)
    with ExitStack() as stack:
        world = stack.enter_context(open_world())
        if world.is_main:
            stack.enter_context(folder.locked())
        train_envs, eval_envs = (
            stack.enter_context(closing(EnvPool(partial(make_env, config, source, index=index))))
            for source, index in zip(sources, indexes, strict=True)
        )
        first_env = train_envs.acquire()
        assert isinstance(first_env, TextEnv)
        rollout = with_stop_strings(config.trainer.rollout, first_env)
        train_envs.release(first_env)
        tokenizer = load_tokenizer(model_dir)
        check_model_fits(model_dir, tokenizer, max_model_len=config.max_model_len)
        engine: Engine | None = None
        if engine_name(config) != "transformers":
            # Before the learner: vLLM measures the free memory while it starts.
            engine = make_engine(model_dir, config, is_sender=world.is_main, report=report)
        with weights_named(model_dir):
            learner = make_learner(config, model_dir, world)
        if engine is None:
            engine = make_engine(model_dir, config, learner=learner, report=report)
        stack.callback(engine.close)
        trainer = Trainer(
            learner=learner,
            engine=engine,
            chat=Chat(tokenizer, config.chat),
            envs=train_envs,
            eval_envs=eval_envs,
            train_tasks=sources[0][: config.num_train_tasks],
            eval_tasks=sources[1][: config.num_eval_tasks],
            config=replace(config.trainer, rollout=rollout),
            folder=folder,
            report=report,
            progress=progress,
            should_stop=should_stop,
        )
        if is_resumed:
            trainer.resume()
        yield trainer


def seed_everything(seed: int) -> None:
    """Seeds the generators that libraries may use; ours take explicit seeds."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def make_learner(config: ExperimentConfig, model_dir: Path, world: World) -> Learner:
    """The learner of a run on the weights of a folder; a KL term compares with the run's first weights."""
    # Several ranks shard it from the computer's memory, layer by layer: it need not fit on one GPU.
    device = "cpu" if world.size > 1 else str(world.device)
    needs_reference = bool(config.learner.loss.kl_coef) and config.learner.lora is None
    is_first = model_dir == Path(config.model)
    reference = (
        load_model(config.model, device=device) if needs_reference and not is_first else None
    )
    return Learner(
        load_model(model_dir, device=device),
        config.learner.over(config.trainer.num_steps),
        temperature=config.trainer.rollout.temperature or 1.0,
        world=world,
        reference=reference,
    )


@contextmanager
def weights_named(model_dir: Path) -> Iterator[None]:
    """Says which folder's weights are broken, where the loading of a model says only how."""
    try:
        yield
    except (SafetensorError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        cause = (str(error).strip().splitlines() or [""])[0]
        if "mismatched_sizes" in cause:
            cause = "shapes of weights and of config.json differ"
        raise ValueError(
            f"The weights in {str(model_dir)!r} are damaged or belong to another config.json "
            f"({type(error).__name__}: {cause}). Copy the folder again; where it is in a run's last "
            "checkpoint, move that away and the run resumes from the one before it."
        ) from error


def check_model_fits(model_dir: Path, tokenizer: Tokenizer, *, max_model_len: int) -> None:
    """Refuses a tokenizer of another model, and a context that the model does not have.

    Raises:
        ValueError: Saying which numbers do not go together, or which file of weights is cut short.
        FileNotFoundError: If there is no model in the folder.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(check_model_dir(model_dir))
    for path in sorted(model_dir.glob("*.safetensors")):
        with weights_named(model_dir), safe_open(path, framework="pt"):  # reads its header only
            pass
    num_ids = len(tokenizer)  # type: ignore[arg-type]
    if num_ids > config.vocab_size:
        raise ValueError(
            f"The tokenizer in {str(model_dir)!r} has {num_ids} tokens and the model embeds "
            f"{config.vocab_size}: they belong to different models. Put the model's own tokenizer there."
        )
    longest = getattr(config, "max_position_embeddings", None)
    if longest is not None and max_model_len > longest:
        raise ValueError(
            f"max_model_len is {max_model_len}; the model in {str(model_dir)!r} has a context of "
            f"{longest} tokens. Give at most that."
        )
