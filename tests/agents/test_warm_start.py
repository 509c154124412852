"""The warm start: lessons from worlds of their own, and a model folder at the end."""

from pathlib import Path

from maskgym.agents.experiment import ExperimentConfig
from maskgym.agents.learning.model_folder import load_model
from maskgym.agents.rollouts.chat import Chat, load_tokenizer
from maskgym.agents.warm_start import LessonShare, WarmStartConfig, make_warm_model, play_lessons
from maskgym.envs import EpisodeConfig, SearchConfig, XMLProtocol
from maskgym.envs.testbed import FictionalWorld

SMALL = WarmStartConfig(
    reading_steps=2,
    lesson_steps=2,
    batch_size=4,
    num_lessons=40,
    num_worlds=2,
    lessons=(LessonShare(level=1, share=0.5), LessonShare(level=2, share=0.5, scaffold="all")),
)


def experiment(folder: Path) -> ExperimentConfig:
    return ExperimentConfig(
        env_id="maskgym/Search-v0",
        model=str(folder),
        train_tasks="testbed:level=3",
        eval_tasks="testbed:level=3,split=test",
        max_model_len=512,
        episode=EpisodeConfig(instructions="", last_turn_notice=""),
        protocol=XMLProtocol(block_separator=" "),
        search=SearchConfig(top_k=1, passage_format="plain"),
    )


def test_a_model_folder_comes_out(tmp_path: Path) -> None:
    config = experiment(tmp_path / "model")
    lines: list[str] = []
    assert make_warm_model(config, SMALL, report=lines.append)
    assert load_model(config.model, device="cpu")
    chat = Chat(load_tokenizer(config.model))
    name = FictionalWorld(level=1).passages()[0].title
    # One token a name: a model of two layers can then copy it.
    assert len(chat.tokenizer.encode(name, add_special_tokens=False)) == 1
    assert any("expert trajectories    2/2" in line for line in lines)


def test_lessons_are_played_in_worlds_that_are_not_those_of_the_run(tmp_path: Path) -> None:
    config = experiment(tmp_path / "model")
    make_warm_model(config, SMALL, report=lambda line: None, should_stop=lambda: True)
    chat = Chat(load_tokenizer(config.model), config.chat)
    lessons = play_lessons(config, SMALL, chat)
    assert len(lessons) == 40
    shown = [chat.tokenizer.decode(lesson.ids) for lesson in lessons]
    assert sum("[ENTITY]" in text for text in shown) == 20
    for split in ("train", "test"):
        pages = [page.text for page in FictionalWorld(level=3, split=split).passages()]
        assert not any(page in text for text in shown for page in pages)


def test_it_stops_when_asked(tmp_path: Path) -> None:
    stopped = make_warm_model(
        experiment(tmp_path / "model"), SMALL, report=lambda line: None, should_stop=lambda: True
    )
    assert not stopped
