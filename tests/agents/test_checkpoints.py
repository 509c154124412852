"""Checkpoints: whole or not there, whatever happens while they are written."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from maskgym.agents import model_export
from maskgym.agents.checkpoints import (
    CheckpointError,
    load_checkpoint,
    rng_state,
    save_checkpoint,
    set_rng_state,
)
from maskgym.agents.learning.learner import Learner
from maskgym.agents.learning.learner_config import LearnerConfig
from maskgym.agents.learning.sample import Sample
from maskgym.agents.rollouts.trajectory import TokenSequence
from maskgym.agents.run_folder import last_checkpoint, whole_checkpoints
from maskgym.agents.tiny_model import TinyModelConfig, make_tiny_model

CONFIG = LearnerConfig(lr=1e-3)


def make_learner(model_dir: Path, config: LearnerConfig = CONFIG) -> Learner:
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    return Learner(model, config)


def learn(learner: Learner, seed: int) -> float:
    """One optimiser step on a sequence that the seed draws; its loss."""
    rng = random.Random(seed)
    ids = tuple(rng.randrange(10, 300) for _ in range(12))
    sequence = TokenSequence(ids=ids, loss_mask=(0,) * 4 + (1,) * 8, logprobs=(-5.0,) * 12)
    return learner.policy_update([Sample(sequence=sequence, advantage=1.0, group="g")]).loss


@pytest.fixture
def learner(tiny_model_dir: Path) -> Learner:
    return make_learner(tiny_model_dir)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run" / "checkpoints"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_loaded_learner_continues_bit_for_bit(
    learner: Learner, tiny_tokenizer: Any, folder: Path
) -> None:
    learn(learner, 1)
    state = {"cursor": 7, "planner": {"levels": np.arange(3)}}
    path = save_checkpoint(folder, 1, learner=learner, tokenizer=tiny_tokenizer, state=state)
    losses = [learn(learner, seed) for seed in (2, 3)]

    again = make_learner(path / "model")
    back = load_checkpoint(path, learner=again)
    assert back["cursor"] == 7 and back["planner"]["levels"].tolist() == [0, 1, 2]
    assert [learn(again, seed) for seed in (2, 3)] == losses
    for (name, weight), (_, new) in zip(
        learner.named_weights(), again.named_weights(), strict=True
    ):
        assert torch.equal(weight, new), name


def test_the_export_is_a_model_folder_with_a_tied_head_left_out(
    learner: Learner, tiny_tokenizer: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors import safe_open
    from transformers import AutoModelForCausalLM, AutoTokenizer

    learn(learner, 1)
    whole = save_checkpoint(folder, 1, learner=learner, tokenizer=tiny_tokenizer, state={})
    monkeypatch.setattr(model_export, "MAX_FILE_BYTES", 200_000)
    parts = save_checkpoint(folder, 2, learner=learner, tokenizer=tiny_tokenizer, state={})
    assert len(list((whole / "model").glob("*.safetensors"))) == 1
    assert len(list((parts / "model").glob("*.safetensors"))) > 2
    with safe_open(whole / "model" / "model.safetensors", "pt") as file:
        assert "lm_head.weight" not in file.keys()  # noqa: SIM118
    for path in (whole, parts):
        model, report = AutoModelForCausalLM.from_pretrained(
            path / "model", output_loading_info=True
        )
        assert not report["missing_keys"] and not report["unexpected_keys"]
        for (name, a), b in zip(learner.model.named_parameters(), model.parameters(), strict=True):
            assert torch.equal(a, b), name
        assert model.config.architectures == ["Qwen3ForCausalLM"]
        assert model.config.tie_word_embeddings
        assert AutoTokenizer.from_pretrained(path / "model").get_vocab() == (
            tiny_tokenizer.get_vocab()
        )


def test_the_newest_stay_and_the_best_besides(
    learner: Learner, tiny_tokenizer: Any, folder: Path
) -> None:
    for step in range(1, 7):
        save_checkpoint(
            folder,
            step,
            learner=learner,
            tokenizer=tiny_tokenizer,
            state={},
            keep=2,
            is_best=step in (1, 3),
        )
    assert names(folder) == ["step-000003", "step-000005", "step-000006"]
    assert last_checkpoint(folder).name == "step-000006"


def test_a_step_that_is_saved_again_takes_the_place_of_the_first(
    learner: Learner, tiny_tokenizer: Any, folder: Path
) -> None:
    for value in ("first", "second"):
        save_checkpoint(
            folder, 4, learner=learner, tokenizer=tiny_tokenizer, state={"value": value}
        )
    assert names(folder) == ["step-000004"]
    assert load_checkpoint(last_checkpoint(folder), learner=learner)["value"] == "second"


def test_a_kill_between_two_renamings_loses_nothing(
    learner: Learner, tiny_tokenizer: Any, folder: Path
) -> None:
    save_checkpoint(folder, 4, learner=learner, tokenizer=tiny_tokenizer, state={"value": 4})
    os.rename(folder / "step-000004", folder / ".replaced-000004")
    (folder / ".partial-000004").mkdir()
    assert [path.name for path in whole_checkpoints(folder)] == [".replaced-000004"]
    assert load_checkpoint(last_checkpoint(folder), learner=learner)["value"] == 4
    save_checkpoint(folder, 5, learner=learner, tokenizer=tiny_tokenizer, state={})
    assert names(folder) == ["step-000004", "step-000005"]


KILLED_AGAIN_AND_AGAIN = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from maskgym.agents.checkpoints import load_checkpoint, save_checkpoint
from maskgym.agents.run_folder import last_checkpoint
from maskgym.agents.learning.learner import Learner
from maskgym.agents.learning.learner_config import LearnerConfig

torch.set_num_threads(1)
model_dir, folder, num_kills = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
tokenizer = AutoTokenizer.from_pretrained(model_dir)
model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
learner = Learner(model, LearnerConfig())

def save(step):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float(step))
    learner.step = step
    save_checkpoint(folder, step, learner=learner, tokenizer=tokenizer, state={"step": step}, keep=2)

started = time.monotonic()
save(1)
save_s = time.monotonic() - started
rng, steps = random.Random(0), []
for _ in range(num_kills):
    first = int(last_checkpoint(folder).name[-6:])
    done, told = os.pipe()
    child = os.fork()
    if child == 0:
        step = first  # saved again: what a resumed run may do
        while True:
            save(step)
            step += 1
            os.write(told, b".")
    for _ in range(rng.randint(0, 2)):
        os.read(done, 1)
    time.sleep(rng.uniform(0, 1.2) * save_s)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(done)
    os.close(told)
    last = last_checkpoint(folder)
    state = load_checkpoint(last, learner=learner)
    step = state["step"]
    assert step >= first, (step, first)
    assert last.name.endswith(f"{step:06d}") and learner.step == step
    whole = AutoModelForCausalLM.from_pretrained(last / "model", dtype=torch.float32)
    assert all(bool((p == step).all()) for p in whole.parameters())
    steps.append(step)
print("steps", *steps)
"""


@pytest.mark.slow
def test_killed_at_twenty_random_moments_the_last_checkpoint_always_loads(
    tiny_model_dir: Path, folder: Path
) -> None:
    run = subprocess.run(
        [sys.executable, "-c", KILLED_AGAIN_AND_AGAIN, str(tiny_model_dir), str(folder), "20"],
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    steps = [int(word) for word in run.stdout.split("\n")[0].split()[1:]]
    assert len(steps) == 20
    assert steps[-1] > 3, "the children saved nothing new before they were killed"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real disk of 2.5 MB; needs the right to mount one."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2500k", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no right to mount a small disk")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_named_and_leaves_the_older_checkpoints(
    learner: Learner, tiny_tokenizer: Any, small_disk: Path
) -> None:
    folder = small_disk / "checkpoints"
    # Before its first step the optimiser has no moments: the first checkpoint fits, the second not.
    save_checkpoint(folder, 0, learner=learner, tokenizer=tiny_tokenizer, state={"step": 0})
    learn(learner, 1)
    for _ in range(2):  # the first failure gives its space back
        with pytest.raises(CheckpointError, match=r"No space left on device.*MiB free"):
            save_checkpoint(folder, 1, learner=learner, tokenizer=tiny_tokenizer, state={"step": 1})
        assert names(folder) == ["step-000000"]
    assert load_checkpoint(last_checkpoint(folder), learner=learner)["step"] == 0


def test_a_folder_that_cannot_be_made_is_a_checkpoint_error(
    learner: Learner, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match="Not a directory"):
        save_checkpoint(
            tmp_path / "file" / "checkpoints",
            1,
            learner=learner,
            tokenizer=tiny_tokenizer,
            state={},
        )


def test_a_state_that_cannot_be_pickled_is_told_and_nothing_is_left(
    learner: Learner, tiny_tokenizer: Any, folder: Path
) -> None:
    with pytest.raises(CheckpointError, match="pickle"):
        save_checkpoint(
            folder, 1, learner=learner, tokenizer=tiny_tokenizer, state={"bad": lambda: None}
        )
    assert names(folder) == []


def test_a_checkpoint_of_another_model_is_refused_with_what_differs(
    learner: Learner, tiny_tokenizer: Any, folder: Path, tmp_path: Path
) -> None:
    path = save_checkpoint(folder, 1, learner=learner, tokenizer=tiny_tokenizer, state={})
    config = TinyModelConfig(
        hidden_size=64, num_layers=2, intermediate_size=128, num_heads=2, num_kv_heads=2
    )
    other = make_tiny_model(tmp_path / "other", ["a b c"], config=config)
    with pytest.raises(
        ValueError, match=r"belongs to another run.*weights differ.*\[\d+, 64\] here"
    ):
        load_checkpoint(path, learner=make_learner(other))


def test_a_checkpoint_of_another_configuration_is_refused_with_what_differs(
    learner: Learner, tiny_tokenizer: Any, folder: Path
) -> None:
    path = save_checkpoint(
        folder, 1, learner=learner, tokenizer=tiny_tokenizer, state={}, config=CONFIG
    )
    load_checkpoint(
        path, learner=learner, config=CONFIG
    )  # tuples come back as lists: no difference
    with pytest.raises(ValueError, match=r"1 settings differ \(betas: \[0.9, 0.95\] there, \[0.5"):
        load_checkpoint(path, learner=learner, config=replace(CONFIG, betas=(0.5, 0.95)))
    with pytest.raises(ValueError, match=r"loss\.clip_high: 0\.2 there, 0\.3 here"):
        load_checkpoint(
            path, learner=learner, config=replace(CONFIG, loss=replace(CONFIG.loss, clip_high=0.3))
        )


def test_folders_that_are_no_checkpoint_are_refused(learner: Learner, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no checkpoint yet"):
        last_checkpoint(tmp_path)
    with pytest.raises(ValueError, match="is no checkpoint"):
        load_checkpoint(tmp_path, learner=learner)
    torch.save({"step": 3}, tmp_path / "trainer.pt")
    with pytest.raises(ValueError, match="older version"):
        load_checkpoint(tmp_path, learner=learner)
    (tmp_path / "checkpoint.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(ValueError, match="format 99"):
        load_checkpoint(tmp_path, learner=learner)


def test_a_damaged_file_is_named(learner: Learner, tiny_tokenizer: Any, folder: Path) -> None:
    path = save_checkpoint(folder, 1, learner=learner, tokenizer=tiny_tokenizer, state={})
    data = (path / "trainer.pt").read_bytes()
    (path / "trainer.pt").write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path, learner=learner)


def test_random_states_come_back() -> None:
    state = rng_state()
    drawn = (random.random(), np.random.rand(), torch.rand(1).item())
    set_rng_state(state)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == drawn
