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
from .chat import Chat, load_tokenizer
from .env_pool import EnvPool
from .evaluation import evaluate
from .experiment import ExperimentConfig, make_engine, make_env, with_stop_strings
from .learner import Learner, LearnerConfig, load_model
from .reading import ReadingExercises
from .sft import Lesson, expert_trajectories, supervised_training
from .tiny_model import TinyModelConfig, make_tiny_model, save_model
from .trajectory import TokenSequence

TAGS = tuple(
    f"<{slash}{name}>"
    for name in ("think", "search", "information", "answer")
    for slash in ("", "/")
)
_PEOPLE_OF_A_LESSON_WORLD = 64
_LOSS_OF_ONE_WHO_KNOWS_THE_RULES = 0.2  # nats a token; above, no question of any level is solved


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
    """Fixes exercises, lessons and their order."""

    weights_seed: int = 0
    """Seed of the initial weights. It is apart from the other, since how soon a model this small finds
    out how to look things up, and whether it does so in a way that extends to three hops, hangs on it."""

    reading_steps: int = 150
    """Optimiser steps on reading exercises."""

    lesson_steps: int = 300
    """Optimiser steps on expert trajectories, at most."""

    target_level: int = 3
    """Hops of the questions that the lessons only begin to teach."""

    target_accuracy: float = 0.3
    """The lessons end once so many questions of the target level are solved, bare and greedy, in a world
    of its own: training can then go on by trial and error."""

    num_probes: int = 64
    """Questions that this is measured on."""

    batch_size: int = 64
    """Sequences in a step."""

    lr: float = 3e-3
    """Learning rate."""

    num_lessons: int = 4000
    """Expert trajectories in all."""

    num_worlds: int = 50
    """Worlds that they come from. With one, the model would learn its pages by heart."""

    lessons: tuple[LessonShare, ...] = (
        LessonShare(level=1, share=0.3),
        LessonShare(level=2, share=0.45),
        LessonShare(level=3, share=0.1),
        LessonShare(level=2, share=0.05, scaffold="all"),
        LessonShare(level=3, share=0.1, scaffold="all"),
    )
    """What the lessons are about."""


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
    lesson_learner = Learner(model, replace(learner_config, decay_steps=config.lesson_steps))
    probe = _Probe(experiment, config, lesson_learner)
    is_done = supervised_training(
        Learner(model, learner_config),
        partial(_batch, lambda: exercises.sample(rng), config.batch_size),
        num_steps=config.reading_steps,
        name="reading exercises",
        report=report,
        should_stop=should_stop,
    ) and supervised_training(
        lesson_learner,
        partial(_batch, lambda: lessons[rng.integers(len(lessons))], config.batch_size),
        num_steps=config.lesson_steps,
        stop_when=probe.is_passed,
        name="expert trajectories",
        report=report,
        should_stop=should_stop,
    )
    probe.close()
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
            sequences += [trajectory.sequence() for trajectory in played]
    return sequences


class _Probe:
    """Asks now and then how many questions of the target level are solved."""

    def __init__(
        self, experiment: ExperimentConfig, config: WarmStartConfig, learner: Learner
    ) -> None:
        self.config = config
        self.num_steps = 0
        self.learner = learner
        self.chat = Chat(load_tokenizer(experiment.model), experiment.chat)
        # A world of its own, beyond those of the lessons.
        seed = 1000 * (config.seed + 1) + 999
        world = FictionalWorld(config.target_level, seed=seed)
        self.tasks = world[: config.num_probes]
        self.envs = EnvPool(partial(make_env, replace(experiment, index=""), world))
        with closing(make_env(replace(experiment, index=""), world)) as env:
            experiment = with_stop_strings(replace(experiment, engine="transformers"), env)
        self.rollout = replace(experiment.trainer.rollout, temperature=0.0, num_env_workers=0)
        self.engine = make_engine(experiment.model, experiment, learner=learner)

    def is_passed(self, running_loss: float) -> bool:
        """Whether the lessons can end; looks at every third step once the rules are known."""
        self.num_steps += 1
        if running_loss > _LOSS_OF_ONE_WHO_KNOWS_THE_RULES or self.num_steps % 3:
            return False
        self.engine.update_weights(self.learner.named_weights(), version=self.num_steps)
        found, _ = evaluate(self.engine, self.chat, self.envs, self.tasks, self.rollout)
        return found.accuracy.mean >= self.config.target_accuracy

    def close(self) -> None:
        self.envs.close()
        self.engine.close()


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
        seed=config.weights_seed,
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
