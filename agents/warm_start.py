"""Nothing but the testbed in, a small model that plays by the rules out: the warm start of the demo.

Two parts, both imitation: reading exercises, after which the model can look facts up in its context, and
expert trajectories in worlds of their own, none of them that of training or evaluation.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from ..envs.testbed import FictionalWorld
from ..envs.testbed.names import NAMES
from ..envs.testbed.world import RELATIONS
from .experiment import ExperimentConfig
from .guidance.experts import Lesson, expert_trajectories
from .guidance.supervised import supervised_training
from .learning.learner import Learner, LearnerConfig
from .learning.model_folder import load_model
from .play_config import make_env
from .reading import ReadingExercises
from .rollouts.chat import Chat, load_tokenizer
from .rollouts.trajectory import TokenSequence
from .tiny_model import TinyModelConfig, make_tiny_model, save_model

TAGS = tuple(
    f"<{slash}{name}>"
    for name in ("think", "search", "information", "answer")
    for slash in ("", "/")
)
_PEOPLE_OF_A_LESSON_WORLD = 64


@dataclass(frozen=True, kw_only=True)
class LessonShare:
    """One kind of lesson."""

    level: int
    """Hops of the questions."""

    share: float
    """Share of all lessons, 0 to 1."""

    scaffold: str = ""
    """Mask policy of the scaffold that is shown; empty for a bare prompt."""


@dataclass(frozen=True, kw_only=True)
class WarmStartConfig:
    """How much is imitated."""

    seed: int = 0
    """Fixes weights, exercises, lessons and their order."""

    reading_steps: int = 150
    """Optimiser steps on reading exercises."""

    lesson_steps: int = 130
    """Optimiser steps on expert trajectories; the learning rate falls along a cosine to a tenth, so that
    what is learnt is also done reliably when sampled."""

    batch_size: int = 64
    """Sequences in a step."""

    lr: float = 3e-3
    """Learning rate."""

    num_lessons: int = 4000
    """Expert trajectories in all."""

    num_worlds: int = 50
    """Worlds that they come from. With one, the model would learn its pages by heart."""

    lessons: tuple[LessonShare, ...] = (
        LessonShare(level=1, share=0.8),
        LessonShare(level=1, share=0.05, scaffold="all"),
        LessonShare(level=2, share=0.15, scaffold="all"),
    )
    """What the lessons are about: one hop, and two only with a scaffold in view."""


def make_warm_model(
    experiment: ExperimentConfig,
    config: WarmStartConfig,
    *,
    report: Callable[[str], None] = print,
    should_stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Writes the model folder that an experiment on the fictional world starts from.

    Args:
        experiment: Names the folder (`model`) and the environment.
        config: How much is imitated.
        report: Takes one line of progress.
        should_stop: Asked before each step.

    Returns:
        Whether it was finished (False: it was asked to stop).
    """
    folder = Path(experiment.model)
    make_tiny_model(folder, _texts(config.seed), config=_model_config(experiment, config))
    model = load_model(folder, device="cpu")
    tokenizer = load_tokenizer(folder)
    chat = Chat(tokenizer, experiment.chat)
    num_weights = sum(p.numel() for p in model.parameters())
    report(f"  Qwen3 architecture, {num_weights:,} weights")
    rng = np.random.default_rng(config.seed)
    exercises = ReadingExercises(tokenizer, keys=RELATIONS, values=NAMES)
    lessons = play_lessons(experiment, config, chat)
    learner_config = LearnerConfig(
        lr=config.lr,
        warmup_steps=min(50, config.reading_steps // 2),
        micro_batch_tokens=experiment.learner.micro_batch_tokens,
        betas=(0.9, 0.98),
        weight_decay=0.01,
    )
    is_done = supervised_training(
        Learner(model, learner_config),
        partial(_batch, lambda: exercises.sample(rng), config.batch_size),
        num_steps=config.reading_steps,
        name="reading exercises",
        report=report,
        should_stop=should_stop,
    ) and supervised_training(
        Learner(model, replace(learner_config, decay_steps=config.lesson_steps)),
        partial(_batch, lambda: lessons[rng.integers(len(lessons))], config.batch_size),
        num_steps=config.lesson_steps,
        name="expert trajectories",
        report=report,
        should_stop=should_stop,
    )
    save_model(model, folder)
    return is_done


def play_lessons(
    experiment: ExperimentConfig, config: WarmStartConfig, chat: Chat
) -> list[TokenSequence]:
    """Expert trajectories, played in the real environment of each lesson world."""
    experiment = replace(experiment, index="")
    sequences: list[TokenSequence] = []
    for number in range(config.num_worlds):
        seed = 1000 * (config.seed + 1) + number
        orders: list[Lesson] = []
        for kind in config.lessons:
            world = FictionalWorld(kind.level, seed=seed, num_people=_PEOPLE_OF_A_LESSON_WORLD)
            count = round(kind.share * config.num_lessons / config.num_worlds)
            orders += [Lesson(task=task, scaffold=kind.scaffold) for task in world[:count]]
        with closing(make_env(experiment, world)) as env:
            played = expert_trajectories(env, chat, orders, max_tokens=experiment.max_model_len)
            sequences += [s for trajectory in played for s in trajectory.sequences()]
    return sequences


def _model_config(experiment: ExperimentConfig, config: WarmStartConfig) -> TinyModelConfig:
    return TinyModelConfig(
        hidden_size=96,
        num_layers=2,
        intermediate_size=288,
        num_heads=4,
        num_kv_heads=4,
        head_dim=64,
        max_position_embeddings=experiment.max_model_len,
        initializer_range=0.033,
        tokenizer_kind="word",
        vocab_size=8192,
        extra_tokens=TAGS,
        seed=config.seed,
    )


def _texts(seed: int) -> Iterator[str]:
    """What the tokenizer is made from: the words of the testbed and of the chat format."""
    world = FictionalWorld(level=3, seed=seed)
    yield " ".join(NAMES)
    for page, task in zip(world.passages(), world, strict=False):
        yield f"{page.text}\n{task.question}"
    yield "user\nassistant\nExample: [ENTITY]\nsearch: [ENTITY]\nanswer: [ANSWER]\n"


def _batch(sample: Callable[[], TokenSequence], size: int) -> list[TokenSequence]:
    return [sample() for _ in range(size)]
