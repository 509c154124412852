"""The training benchmark: its workload is what it says, its measures are right, arms do the same work."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from maskgym.agents.engines.engine import Request, SamplingParams
from maskgym.agents.engines.scripted_engine import ScriptedEngine
from maskgym.agents.learning.sample import Sample
from maskgym.agents.rollouts.chat import Chat, load_tokenizer
from maskgym.agents.rollouts.trajectory import TokenSequence
from maskgym.scripts.benchmarks import training
from maskgym.scripts.benchmarks.tables import Table
from maskgym.scripts.benchmarks.training_arms import (
    Arm,
    ArmFailedError,
    ArmStep,
    median,
    rounds,
    spread,
)
from maskgym.scripts.benchmarks.training_cases import relative, worst_difference
from maskgym.scripts.benchmarks.training_env import (
    AskedLengths,
    Casting,
    ScriptedEnv,
    Workload,
    length_ids,
    length_word,
    make_model,
    wanted_length,
)
from maskgym.scripts.benchmarks.training_memory import MemoryRow
from maskgym.scripts.benchmarks.training_memory_gate import memory_tables
from maskgym.scripts.benchmarks.training_parity import trl_batch
from maskgym.scripts.benchmarks.training_ranks import add_gate
from maskgym.scripts.benchmarks.training_shapes import SIZES, make_shape
from maskgym.scripts.benchmarks.training_step import check_same_work

SMALL = Workload(num_tasks=2, group_size=4, min_tokens=2, max_tokens=6, prompt_words=5, tool_s=0.0)


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("training") / "model", SMALL)


def test_a_workload_is_the_same_every_time_and_within_its_bounds() -> None:
    workload = Workload()
    scripts = workload.scripts()
    assert scripts == Workload().scripts() != Workload(seed=1).scripts()
    assert workload.tasks() == Workload().tasks()
    assert [len(group) for group in scripts.values()] == [8] * 8
    everything = [script for group in scripts.values() for script in group]
    assert {len(s.lengths) for s in everything} == {2, 3, 4, 5, 6}
    lengths = [length for s in everything for length in s.lengths]
    assert min(lengths) >= 4 and max(lengths) <= 32
    assert workload.num_action_tokens == sum(lengths)
    for group in scripts.values():
        assert len({s.lengths[0] for s in group}) == 1, "members share the prompt that asks for it"
        assert sum(s.is_right for s in group) == 4, "no group is flat"
    with pytest.raises(ValueError, match="at least 1"):
        Workload(min_turns=3, max_turns=2)


def test_an_episode_follows_its_script_whatever_the_model_says() -> None:
    casting = Casting(SMALL)
    env = ScriptedEnv(SMALL, casting)
    task = SMALL.tasks()[0]
    seen: Counter[tuple[tuple[int, ...], float]] = Counter()
    for said in ("", "\x00 </answer>", "<answer> x </answer>", "words"):
        observation, _ = env.reset(options={"task": task, "scaffold": ""})
        lengths, is_over, reward = [], False, 0.0
        while not is_over:
            last = observation["text"].split()[-1]
            lengths.append(int(last.removeprefix("<n").removesuffix(">")))
            observation, reward, is_over, truncated, info = env.step(said)
            assert not truncated
        assert info["end_reason"] == "answered"
        seen[(tuple(lengths), reward)] += 1
    group = SMALL.scripts()[task.task_id]
    assert seen == Counter((s.lengths, float(s.is_right)) for s in group)
    assert casting.next_script(task.task_id) == group[0], "the next step begins anew"


def test_the_prompt_is_within_the_length_that_engines_are_given(model_dir: Path) -> None:
    chat = Chat(load_tokenizer(model_dir))
    env = ScriptedEnv(SMALL, Casting(SMALL))
    longest = 0
    for task in SMALL.tasks():
        for script in SMALL.scripts()[task.task_id]:
            observation, _ = env.reset(options={"task": task, "scaffold": ""})
            num = len(chat.prompt_ids(observation["text"]))
            for length in script.lengths[:-1]:
                observation, *_ = env.step("x")
                num += length + len(chat.observation_ids(observation["text"], after_ids=[5]))
            longest = max(longest, num + script.lengths[-1])
    assert longest <= SMALL.max_sequence_tokens < 2 * longest


def test_the_last_length_token_of_a_prompt_counts(model_dir: Path) -> None:
    tokenizer = load_tokenizer(model_dir)
    lengths = length_ids(tokenizer, SMALL)
    assert sorted(lengths.values()) == [2, 3, 4, 5, 6]
    ids = tokenizer.encode(f"word1 {length_word(3)} word2 {length_word(5)} word3")
    assert wanted_length(ids, lengths) == 5
    with pytest.raises(ValueError, match="asks for no length"):
        wanted_length(tokenizer.encode("word1"), lengths)
    with pytest.raises(ValueError, match="extra_tokens"):
        length_ids(tokenizer, replace(SMALL, max_tokens=7))


def test_an_engine_gives_what_the_prompt_asks_for(model_dir: Path) -> None:
    tokenizer = load_tokenizer(model_dir)
    engine = AskedLengths(ScriptedEngine(lambda prompt: [9] * 100), tokenizer, SMALL)
    prompt = tuple(tokenizer.encode(f"word1 {length_word(4)}"))
    params = SamplingParams(max_tokens=50, stop_token_ids=(9,))
    engine.submit(Request(request_id="a", prompt_ids=prompt, params=params))
    (done,) = engine.poll()
    assert done.token_ids == (9,) * 4 and engine.num_sampled == 4


def step(**values: Any) -> ArmStep:
    defaults: dict[str, Any] = dict.fromkeys(
        ("total_s", "cpu_s", "rollout_s", "train_s", "sync_s", "grad_norm"), 1.0
    )
    work = SMALL.num_action_tokens
    defaults |= {"num_episodes": 8, "num_sampled": work, "num_trained": work, "reward": 0.5}
    return ArmStep(**{**defaults, "num_real": 100, "num_computed": 120, **values})


def test_medians_and_spreads_of_steps() -> None:
    steps = [step(total_s=value) for value in (5.0, 1.0, 4.0)]
    assert median(steps, "total_s") == 4.0 and median(steps[:2], "total_s") == 3.0
    assert spread(steps, "total_s") == (1.0, 5.0)


def test_an_arm_that_did_other_work_is_refused() -> None:
    (line,) = check_same_work(SMALL, {"a": [step()], "b": [step(total_s=9.0)]})
    assert str(SMALL.num_action_tokens) in line
    for wrong in ({"num_sampled": 1}, {"num_trained": 1}, {"num_episodes": 7}, {"reward": 0.4}):
        with pytest.raises(AssertionError, match="b did other work"):
            check_same_work(SMALL, {"a": [step()], "b": [step(), step(**wrong)]})


@pytest.mark.slow
def test_both_arms_train_in_turn_and_an_arm_that_fails_is_named(model_dir: Path) -> None:
    pytest.importorskip("trl")
    fields = {name: getattr(SMALL, name) for name in Workload.__dataclass_fields__}
    common = {"engine": "transformers", "workload": fields}

    def arm(module: str, folder: Path, **setting: Any) -> Arm:
        return Arm(module, [str(folder), json.dumps({**common, **setting})])

    times, failures = rounds(
        {
            "ours": lambda: arm("training_ours", model_dir, micro_batch_tokens=256),
            "TRL": lambda: arm("training_trl", model_dir, per_device_batch=4),
            "none": lambda: arm("training_ours", model_dir / "nothing"),
        },
        num_rounds=1,
        num_discarded=1,
    )
    assert set(times) == {"ours", "TRL"} and set(failures) == {"none"}
    assert "nothing" in failures["none"]
    check_same_work(SMALL, times)
    ours, trl = times["ours"][0], times["TRL"][0]
    assert ours.num_real == trl.num_real < trl.num_computed, "TRL pads"
    assert ours.num_computed < ours.num_real, "a group shares its prompt"
    # Other samples, the same objective at the same weights: norms of one size.
    assert ours.grad_norm == pytest.approx(trl.grad_norm, rel=0.5)


def test_a_silent_child_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    arm = Arm("training", ["--help"])  # says something else and ends
    with pytest.raises(ArmFailedError, match="Training benchmark"):
        arm.step(timeout_s=60)


def test_a_batch_is_padded_as_trl_pads_it() -> None:
    samples = [
        Sample(
            sequence=TokenSequence(
                ids=(1, 2, 3, 4), loss_mask=(0, 0, 1, 1), logprobs=(0.0, 0.0, -1.0, -2.0)
            ),
            advantage=0.5,
        ),
        Sample(
            sequence=TokenSequence(
                ids=(5, 6, 7, 8), loss_mask=(0, 1, 0, 1), logprobs=(0.0, -3.0, 0.0, -4.0)
            ),
            advantage=-0.5,
        ),
    ]
    batch = {name: value.tolist() for name, value in trl_batch(samples, 99).items()}
    assert batch == {
        "prompt_ids": [[1, 2], [99, 5]],
        "prompt_mask": [[1, 1], [0, 1]],
        "completion_ids": [[3, 4, 99], [6, 7, 8]],
        "completion_mask": [[1, 1, 0], [1, 1, 1]],
        "tool_mask": [[1, 1, 0], [1, 0, 1]],
        "old_per_token_logps": [[-1.0, -2.0, 0.0], [-3.0, 0.0, -4.0]],
        "advantages": [0.5, -0.5],
        "num_items_in_batch": 4,
    }


def test_flops_are_those_that_torch_counts() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    shape, length = SIZES["tiny"].shape, 24
    model = make_shape(shape)
    model.set_attn_implementation("eager")
    weights = sum(p.numel() for p in model.parameters() if p.ndim == 2)
    assert shape.num_matrix_weights == weights
    with FlopCounterMode(display=False) as counter:
        ids = torch.arange(length)[None]
        model(input_ids=ids, use_cache=False).logits.sum().backward()
    # Eager attention multiplies the masked half too.
    masked = 6.0 * shape.num_layers * shape.num_heads * shape.head_dim * length**2
    assert counter.get_total_flops() == shape.step_flops([length]) + masked
    assert shape.step_flops([length, length]) == 2 * shape.step_flops([length])


def test_the_size_of_qwen3_is_the_published_one() -> None:
    # 0.6B in all, 0.44B without the embedding (model card of Qwen3-0.6B).
    shape = SIZES["0.6b"].shape
    embedding = shape.vocab_size * shape.hidden_size
    assert round(shape.num_matrix_weights / 1e9, 1) == 0.6
    assert round((shape.num_matrix_weights - embedding) / 1e9, 2) == 0.44


def test_differences_are_relative_to_the_largest_value() -> None:
    first = {"a": torch.tensor([1.0, 4.0]), "b": torch.tensor([2.0])}
    second = {"a": torch.tensor([1.0, 4.0]), "b": torch.tensor([2.2])}
    assert worst_difference(first, second) == pytest.approx(0.05)
    assert relative(2.0, 1.0) == 0.5


def test_a_failed_gate_is_seen() -> None:
    table = Table(title="gates", columns=("what", "value", "limit", "passed"))
    add_gate(table, "small", 1e-6, 1e-5)
    add_gate(table, "equal tokens", 10, 10, at_least=True)
    assert not training.has_failed_gate(table)
    add_gate(table, "not a number", float("nan"), 1e-5)
    assert [row[-1] for row in table.rows] == ["yes", "yes", "NO"]
    assert training.has_failed_gate(table)
    assert not training.has_failed_gate(Table(title="numbers", columns=("what",)))


def test_memory_that_grows_with_tokens_times_vocabulary_fails_the_gate() -> None:
    def rows(per_logit: float) -> list[MemoryRow]:
        sizes = [(1000, 500, 10), (2000, 500, 10), (1000, 900, 10), (1000, 500, 80)]
        return [
            MemoryRow(
                vocabulary=v,
                num_tokens=n,
                chunk_tokens=c,
                peak_bytes=int(4 * v * c + per_logit * v * n),
                dense_bytes=4 * v * n,
            )
            for v, n, c in sizes
        ]

    chunked, dense = memory_tables(rows(0.0))[1], memory_tables(rows(4.0))[1]
    assert [row[-1] for row in chunked.rows] == ["yes", "yes", "yes"]
    assert [row[-1] for row in dense.rows] == ["NO", "NO", "yes"]
    assert chunked.rows[1][1] == pytest.approx(10 / 500)  # 10 rows of logits where dense holds 500
    without_chunks = [replace(row, peak_bytes=100) for row in rows(0.0)]
    assert memory_tables(without_chunks)[1].rows[2][-1] == "NO"


def test_the_command_refuses_what_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    assert training.main(["--only", "gats"]) == 2
    assert "no part" in capsys.readouterr().err
    assert training.main(["--rounds", "0"]) == 2
