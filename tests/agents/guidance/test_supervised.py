"""The supervised stage: batches of imitation, and experts beside rollouts."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from maskgym.agents.guidance.config import Slot
from maskgym.agents.guidance.experts import Lesson, play_expert
from maskgym.agents.guidance.supervised import (
    SupervisedConfig,
    SupervisedStage,
    supervised_training,
)
from maskgym.agents.learning.learner import Learner, LearnerConfig
from maskgym.agents.learning.losses import LossConfig
from maskgym.agents.learning.model_folder import load_model
from maskgym.agents.rollouts.chat import Chat
from maskgym.agents.rollouts.env_pool import EnvPool
from maskgym.agents.rollouts.trajectory import TokenSequence
from maskgym.envs import (
    CodeEnv,
    Grade,
    MathEnv,
    SearchEnv,
    Task,
    TextEnv,
    load_tasks,
    testbed,
)
from maskgym.masking import ExpertTrace, TraceTurn, TurnKind
from maskgym.retrieval import BM25Index, Passage

from .guidance_cases import played


def make_tasks(number: int, *, wrong: Sequence[int] = ()) -> list[Task]:
    """Sums with their traces; the experts of some have another result than the target."""
    return [
        Task(
            task_id=f"t{i}",
            question=f"What is {i} plus 4 ?",
            answers=(f"{i + 4}",),
            expert_trace=None if i in wrong else ExpertTrace.from_text(f"{i} + 4 = {i + 4}"),
        )
        for i in range(number)
    ]


def make_stage(
    tasks: Sequence[Task],
    tokenizer: Any,
    config: SupervisedConfig,
    *,
    env: type[MathEnv] = MathEnv,
    **kwargs: Any,
) -> SupervisedStage:
    envs = EnvPool(lambda: env(tasks=tasks))
    return SupervisedStage(envs, Chat(tokenizer), tasks, config, max_tokens=500, **kwargs)


def asked(tokenizer: Any, sequences: Sequence[TokenSequence]) -> list[str]:
    """The numbers that the questions of a batch ask about."""
    texts = [tokenizer.decode(sequence.ids) for sequence in sequences]
    return ["".join(text.partition("What is")[2].partition("plus")[0].split()) for text in texts]


def test_every_expert_is_imitated_once_in_an_epoch(tiny_tokenizer: Any) -> None:
    stage = make_stage(make_tasks(12), tiny_tokenizer, SupervisedConfig(batch_size=4))
    epochs = [
        [name for step in steps for name in asked(tiny_tokenizer, stage.batch(step))]
        for steps in ((1, 2, 3), (4, 5, 6))
    ]
    assert sorted(map(int, epochs[0])) == sorted(map(int, epochs[1])) == list(range(12))
    assert epochs[0] != epochs[1]
    assert stage.num_played == 12  # each once: the second epoch comes from memory


def test_a_batch_depends_on_seed_and_step_alone(tiny_tokenizer: Any) -> None:
    tasks = make_tasks(20, wrong=(3, 4, 5, 11))
    config = SupervisedConfig(batch_size=6)
    first = make_stage(tasks, tiny_tokenizer, config, seed=5)
    batches = [first.batch(step) for step in range(1, 8)]
    resumed = make_stage(tasks, tiny_tokenizer, config, seed=5)
    assert [resumed.batch(step) for step in (7, 3)] == [batches[6], batches[2]]
    other = make_stage(tasks, tiny_tokenizer, config, seed=6)
    assert other.batch(1) != batches[0]


def test_experts_that_are_left_out_are_counted_and_their_places_filled(
    tiny_tokenizer: Any,
) -> None:
    tasks = make_tasks(10, wrong=(0, 1, 2, 3))
    lines: list[str] = []
    config = SupervisedConfig(batch_size=10)
    stage = make_stage(tasks, tiny_tokenizer, config, report=lines.append)
    numbers = asked(tiny_tokenizer, stage.batch(1))
    assert len(numbers) == 10
    assert set(map(int, numbers)) == {4, 5, 6, 7, 8, 9}
    assert stage.left_out == {"no_trace": 4}
    assert len(lines) == 1  # the first of a kind; the others are in the count
    assert "no expert trace" in lines[0]


def test_a_wrong_and_an_endless_expert_are_counted_apart(tiny_tokenizer: Any) -> None:
    right, wrong, endless = make_tasks(3)
    answer = TraceTurn(kind=TurnKind.ANSWER, text="77")
    wrong = replace(wrong, expert_trace=ExpertTrace(turns=(answer,)))
    endless = replace(endless, expert_trace=ExpertTrace.from_text("and so on " * 300))
    stage = make_stage([right, wrong, endless], tiny_tokenizer, SupervisedConfig(batch_size=6))
    assert set(asked(tiny_tokenizer, stage.batch(1))) == {"0"}
    assert stage.left_out == {"unsolved": 1, "too_long": 1}


def test_ranks_share_a_batch_out(tiny_tokenizer: Any) -> None:
    tasks = make_tasks(20, wrong=(3, 4, 5, 11))
    stages = [make_stage(tasks, tiny_tokenizer, SupervisedConfig(batch_size=7)) for _ in range(3)]
    for step in (1, 2, 3):
        whole = stages[0].batch(step)
        parts = [stages[rank + 1].batch(step, rank=rank, size=2) for rank in (0, 1)]
        assert whole[0::2] == parts[0]
        assert whole[1::2] == parts[1]
    assert stages[1].num_played + stages[2].num_played < 2 * stages[0].num_played


def test_without_any_expert_the_stage_says_what_to_do(tiny_tokenizer: Any) -> None:
    stage = make_stage(
        make_tasks(3, wrong=(0, 1, 2)), tiny_tokenizer, SupervisedConfig(batch_size=2)
    )
    with pytest.raises(ValueError, match=r"left out so far: no_trace 3.*num_steps"):
        stage.batch(1)


def test_an_environment_that_raises_costs_its_own_expert_alone(tiny_tokenizer: Any) -> None:
    class Fragile(MathEnv):
        num_made = 0

        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            Fragile.num_made += 1

        def reset(
            self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
        ) -> Any:
            if options and options["task"].task_id == "t1":
                raise OSError("out of files")
            return super().reset(seed=seed, options=options)

    config = SupervisedConfig(batch_size=4, num_workers=1)
    stage = make_stage(make_tasks(4), tiny_tokenizer, config, env=Fragile)
    assert "1" not in asked(tiny_tokenizer, stage.batch(1))
    assert stage.left_out == {"env_error": 1}
    assert Fragile.num_made == 2  # the one that raised is not used again


def test_experts_with_slow_tools_play_at_once_and_give_what_one_after_the_other_gives(
    tiny_tokenizer: Any,
) -> None:
    class Slow(MathEnv):
        def grade(self, task: Task, answer: str) -> Grade:
            time.sleep(0.05)
            return super().grade(task, answer)

    batches, times_s = [], []
    for num_workers in (1, 8):
        config = SupervisedConfig(batch_size=16, num_workers=num_workers)
        stage = make_stage(make_tasks(20, wrong=(3, 4)), tiny_tokenizer, config, env=Slow)
        started_s = time.perf_counter()
        batches.append([stage.batch(step) for step in (1, 2)])
        times_s.append(time.perf_counter() - started_s)
    assert batches[0] == batches[1]
    assert times_s[1] < times_s[0] / 2  # 0.9 s and more against about 0.2 s


def test_experts_can_be_shown_a_scaffold(tiny_tokenizer: Any) -> None:
    config = SupervisedConfig(batch_size=2, scaffold_policy="all")
    for sequence in make_stage(make_tasks(4), tiny_tokenizer, config).batch(1):
        text = tiny_tokenizer.decode(sequence.ids)
        assert "[ NUMBER ]" in text or "[NUMBER]" in text


def test_a_share_of_the_experts_shows_its_scaffold_and_the_same_ones_each_time(
    tiny_tokenizer: Any,
) -> None:
    config = SupervisedConfig(batch_size=64, scaffold_policy="all", scaffold_share=0.25)
    stages = [make_stage(make_tasks(64), tiny_tokenizer, config, seed=3) for _ in range(2)]
    first, second = (stage.batch(1) for stage in stages)
    assert first == second
    texts = [tiny_tokenizer.decode(sequence.ids) for sequence in first]
    num_shown = sum("NUMBER" in text for text in texts)
    assert 6 <= num_shown <= 26  # 16 expected, three standard deviations are 10


def test_mixed_likelihood_gives_the_step_its_experts_with_a_fixed_weight(
    tiny_tokenizer: Any,
) -> None:
    tasks = make_tasks(3, wrong=(1,))
    config = SupervisedConfig(mix="likelihood", mix_weight=0.25)
    stage = make_stage(tasks, tiny_tokenizer, config)
    by_task = stage.mixed(tasks, [[], [], []])
    assert [len(own) for own in by_task] == [1, 0, 1]
    samples = [sample for own in by_task for sample in own]
    assert asked(tiny_tokenizer, [sample.sequence for sample in samples]) == ["0", "2"]
    assert [sample.advantage for sample in samples] == [0.25, 0.25]
    assert not any(sample.sequence.is_on_policy for sample in samples)
    groups = [sample.group for sample in samples]
    assert not set(groups) & {Slot(task=task, index=0).group for task in tasks}


def test_an_expert_row_is_measured_against_the_bare_rollouts(tiny_tokenizer: Any) -> None:
    tasks = make_tasks(2)
    stage = make_stage(tasks, tiny_tokenizer, SupervisedConfig(mix="expert_row"))
    bare = [Slot(task=tasks[0], index=i) for i in range(4)]
    guided = Slot(task=tasks[1], index=0, scaffold="all")
    group = [played(slot, slot.index == 0) for slot in bare] + [played(bare[0], True, broken=True)]
    by_task = stage.mixed(tasks, [group, [played(guided, False)]])
    # Reward 1 less the mean 1/4 of the rollouts that count; the task without bare ones gives none.
    assert [[(s.advantage, s.group) for s in own] for own in by_task] == [[(0.75, "t0|")], []]
    off = make_stage(tasks, tiny_tokenizer, SupervisedConfig())
    assert off.mixed(tasks, [group, []]) == [[], []]


@pytest.mark.parametrize(
    ("mix", "loss"),
    [
        ("likelihood", LossConfig()),
        ("expert_row", LossConfig(off_policy_gamma=0.1, reduction="constant", constant_tokens=64)),
    ],
)
def test_a_policy_update_with_experts_makes_them_likelier(
    tiny_model_dir: Path, tiny_tokenizer: Any, mix: str, loss: LossConfig
) -> None:
    tasks = make_tasks(3)
    stage = make_stage(tasks, tiny_tokenizer, SupervisedConfig(mix=mix))
    failed = [[played(Slot(task=task, index=i), False) for i in range(2)] for task in tasks]
    samples = [sample for own in stage.mixed(tasks, failed) for sample in own]
    assert [sample.advantage for sample in samples] == [0.1 if mix == "likelihood" else 1.0] * 3
    learner = Learner(load_model(tiny_model_dir, device="cpu"), LearnerConfig(lr=1e-3, loss=loss))
    before = sum(map(sum, learner.score(samples)))
    stats = [learner.policy_update(samples) for _ in range(3)]
    assert sum(map(sum, learner.score(samples))) > before + 1.0
    assert stats[0].clipped_share == 0.0  # there is no ratio, so nothing to clip


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_steps": -1}, "at least 0 and 1"),
        ({"batch_size": 0}, "at least 0 and 1"),
        ({"lr": 0.0}, "above 0"),
        ({"warmup_share": 2.0}, "between 0 and 1"),
        ({"scaffold_share": -0.5}, "between 0 and 1"),
        ({"mix": "row"}, "choose one of none, likelihood, expert_row"),
        ({"mix_weight": 0.0}, "above 0"),
        ({"num_workers": 0}, "at least 1"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SupervisedConfig(**settings)


def play_rows(
    tasks: Sequence[Task], env: TextEnv, tokenizer: Any, number: int
) -> tuple[SupervisedStage, list[TokenSequence]]:
    stage = SupervisedStage(
        EnvPool(lambda: env),
        Chat(tokenizer),
        tasks,
        SupervisedConfig(batch_size=number, num_workers=1),  # there is one environment
        max_tokens=20_000,
    )
    return stage, stage.batch(1)


def imitated(tokenizer: Any, sequence: TokenSequence) -> str:
    pairs = zip(sequence.ids, sequence.loss_mask, strict=True)
    return str(tokenizer.decode([i for i, is_trained in pairs if is_trained]))


def test_solutions_of_gsm8k_become_trajectories(tiny_tokenizer: Any, shared_data: Path) -> None:
    tasks = load_tasks(shared_data / "gsm8k/train.jsonl.gz", domain="math", limit=300)
    stage, batch = play_rows(tasks, MathEnv(tasks=tasks), tiny_tokenizer, 64)
    assert (len(batch), stage.num_played, stage.left_out) == (64, 64, {})
    assert "<answer>" in imitated(tiny_tokenizer, batch[0])


def test_programs_of_humaneval_become_trajectories(tiny_tokenizer: Any, shared_data: Path) -> None:
    tasks = load_tasks(shared_data / "humaneval/HumanEval.jsonl.gz", domain="code", limit=4)
    env = CodeEnv(tasks=tasks)
    try:
        stage, batch = play_rows(tasks, env, tiny_tokenizer, 4)
    finally:
        env.close()
    assert (len(batch), stage.num_played, stage.left_out) == (4, 4, {})
    assert all("def" in imitated(tiny_tokenizer, sequence) for sequence in batch)


@pytest.mark.parametrize(
    ("path", "has_bad_experts"),
    [
        ("fireact_trajectories/hotpotqa.jsonl.gz", False),
        ("search_r1_rollouts/v1_nq_2026_04_28_16_43_search_r1_base_seed1.json.gz", True),
    ],
)
def test_search_trajectories_are_replayed_with_real_observations(
    tiny_tokenizer: Any, shared_data: Path, path: str, has_bad_experts: bool
) -> None:
    tasks = load_tasks(shared_data / path, domain="search", on_bad_row="skip", limit=100)
    index = BM25Index.build([Passage(id="only", text="zebra zebra zebra of what")])
    stage, batch = play_rows(tasks, SearchEnv(tasks=tasks, retriever=index), tiny_tokenizer, 32)
    assert len(batch) == 32
    assert bool(stage.left_out) == has_bad_experts
    shown = [tiny_tokenizer.decode(sequence.ids) for sequence in batch]
    assert any("zebra" in text for text in shown)  # the environment's page, not the trajectory's
    assert not any("zebra" in imitated(tiny_tokenizer, sequence) for sequence in batch)


def test_supervised_training_learns_and_stops_when_asked(
    tiny_model_dir: Path, tiny_tokenizer: Any
) -> None:
    env = SearchEnv(tasks=testbed("search", level=2))
    learner = Learner(load_model(tiny_model_dir, device="cpu"), LearnerConfig(lr=3e-3))
    sequences = [play_expert(env, Chat(tiny_tokenizer), Lesson(task=env.tasks[0])).sequence()]
    lines: list[str] = []
    done = supervised_training(learner, lambda: sequences, num_steps=10, report=lines.append)
    assert done
    losses = [float(line.split("loss ")[1].split()[0]) for line in lines]
    assert losses[-1] < losses[0]
    assert not supervised_training(
        learner, lambda: sequences, num_steps=10, should_stop=lambda: True
    )
