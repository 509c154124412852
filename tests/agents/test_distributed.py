"""Data parallelism: two real ranks (gloo, torchrun) give the numbers of one with the same batch."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from maskgym.agents.distributed import World, decoder_layers, open_world

PROGRAM = Path(__file__).with_name("ranks_program.py")


def load_program() -> Any:
    """The program of the ranks as a module: tests are no package."""
    spec = importlib.util.spec_from_file_location("ranks_program", PROGRAM)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def torchrun(*arguments: object, num_ranks: int = 2) -> list[str]:
    """The command that starts a program on ranks of this machine."""
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone")
    return [*launcher, f"--nproc-per-node={num_ranks}", *map(str, arguments)]


@pytest.fixture(scope="module")
def program() -> Any:
    return load_program()


@pytest.fixture(scope="module")
def one(program: Any, tiny_model_dir: Path) -> dict[str, Any]:
    """What a world of one gets from the whole batch, for each configuration."""
    world = World(device="cpu")
    return {
        name: program.train(
            world, program.make_learner(world, tiny_model_dir, config), tiny_model_dir
        )
        for name, config in program.CONFIGS.items()
    }


@pytest.fixture(scope="module")
def folder(program: Any, tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the ranks write; a checkpoint of a world of one lies there before they start."""
    folder = tmp_path_factory.mktemp("ranks")
    world = World(device="cpu")
    learner = program.make_learner(world, tiny_model_dir, program.CONFIG)
    program.train(world, learner, tiny_model_dir, last=program.NUM_STEPS - 1)
    program.save(world, learner, tiny_model_dir, folder / "of_one")
    return folder


@pytest.fixture(scope="module")
def two(folder: Path, tiny_model_dir: Path) -> dict[str, Any]:
    """What two ranks get from the same batch, each from its own part."""
    run = subprocess.run(
        torchrun(PROGRAM, tiny_model_dir, folder),
        env={**os.environ, "PYTHONFAULTHANDLER": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert run.returncode == 0, run.stderr
    out: dict[str, Any] = torch.load(folder / "out.pt", weights_only=False)
    return out


def distance(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """The largest relative difference of a weight matrix."""
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).norm() / b[name].norm()) for name in b)


@pytest.mark.slow
def test_sums_objects_and_messages_reach_every_rank(two: dict[str, Any]) -> None:
    assert two["sum"] == [2.0, 2.0]  # 0.5 + 1.5, 1 + 1
    assert two["max"] == 1
    assert two["gather"] == [{"rank": 0}, {"rank": 1}]
    assert two["broadcast"] == "from 0"


@pytest.mark.slow
def test_each_rank_holds_half_of_the_weights(two: dict[str, Any], one: dict[str, Any]) -> None:
    whole = sum(weight.numel() for weight in one["float32"]["weights"].values())
    assert sum(two["num_local"]) == whole
    assert max(two["num_local"]) < 0.51 * whole


@pytest.mark.slow
@pytest.mark.parametrize("name", ["float32", "updates", "offload", "lora"])
def test_two_ranks_with_unequal_work_learn_what_one_learns(
    program: Any, two: dict[str, Any], one: dict[str, Any], tiny_model_dir: Path, name: str
) -> None:
    # One rank runs three times as many micro-batches as the other; averaging gradients over ranks
    # instead of summing them would halve the norms.
    assert two[name]["losses"] == pytest.approx(one[name]["losses"], rel=1e-6, abs=1e-7)
    assert two[name]["norms"] == pytest.approx(one[name]["norms"], rel=1e-6)
    assert two[name]["entropies"] == pytest.approx(one[name]["entropies"], rel=1e-6)
    assert distance(two[name]["weights"], one[name]["weights"]) < 1e-6
    # Adam divides by the root of a mean square: what is noise in a gradient of about 0 is seen here.
    start = {n: p.detach() for n, p in program.load_model(tiny_model_dir).named_parameters()}
    moves = [{n: run[name]["weights"][n] - start[n] for n in start} for run in (two, one)]
    moved = [n for n in start if bool(moves[1][n].any())]
    assert len(moved) > 10
    assert distance({n: moves[0][n] for n in moved}, {n: moves[1][n] for n in moved}) < 1e-3


@pytest.mark.slow
def test_two_ranks_in_bfloat16_follow_one_with_master_weights(
    two: dict[str, Any], one: dict[str, Any]
) -> None:
    a, b = two["bfloat16"], one["bfloat16"]
    assert two["shard_types"] == {"torch.float32"}  # the shards are the master weights
    # The first gradient is that of the same weights; then the rounding of each pass's gradients
    # moves what is small another way.
    assert a["norms"][0] == pytest.approx(b["norms"][0], rel=1e-4)
    assert a["losses"] == pytest.approx(b["losses"], rel=0.03)
    assert a["norms"] == pytest.approx(b["norms"], rel=0.1)
    assert distance(a["weights"], b["weights"]) < 4e-3  # a step of bfloat16 is 1/256


@pytest.mark.slow
def test_a_checkpoint_of_two_ranks_continues_bit_for_bit_on_two(two: dict[str, Any]) -> None:
    again, straight = two["resumed"], two["float32"]
    assert again["ranks"] == [0, 1]
    assert again["losses"] == straight["losses"][-1:]
    assert again["norms"] == straight["norms"][-1:]
    assert all(torch.equal(again["weights"][n], w) for n, w in straight["weights"].items())


@pytest.mark.slow
def test_a_checkpoint_continues_on_another_number_of_ranks(
    program: Any,
    two: dict[str, Any],
    one: dict[str, Any],
    folder: Path,
    tiny_model_dir: Path,
) -> None:
    saved = folder / "of_two" / "step-000002"
    to_one = program.resumed(World(device="cpu"), tiny_model_dir, saved)
    for continued in (to_one, two["resumed_from_one"]):
        assert continued["losses"] == pytest.approx(one["float32"]["losses"][-1:], rel=1e-6)
        assert distance(continued["weights"], one["float32"]["weights"]) < 1e-6
    assert two["resumed_from_one"]["ranks"] == [0]


@pytest.mark.slow
def test_a_full_disk_of_one_rank_is_told_to_all_and_leaves_nothing(
    two: dict[str, Any], folder: Path
) -> None:
    assert len(set(two["full_disk"])) == 1
    assert "(rank 1, " in two["full_disk"][0]
    assert [path.name for path in (folder / "of_two").iterdir()] == ["step-000002"]
    for name, weight in two["float32"]["weights"].items():  # and training goes on
        assert torch.equal(two["after_full_disk"]["weights"][name], weight)


DYING_RANK = """
import os, sys, time
from pathlib import Path
import torch
from maskgym.agents.distributed import LostRankError, open_world
with open_world("cpu", timeout_s=30) as world:
    Path(sys.argv[1], f"pid-{world.rank}.part").write_text(str(os.getpid()))
    Path(sys.argv[1], f"pid-{world.rank}.part").rename(Path(sys.argv[1], f"pid-{world.rank}"))
    started = time.monotonic()
    try:
        if world.rank == 1:
            time.sleep(60)
        world.sum([1.0])
    except LostRankError as error:
        waited = time.monotonic() - started
        Path(sys.argv[1], "heard").write_text(f"{waited:.1f} s {error}")
    torch.distributed.all_reduce(torch.ones(1))  # as FSDP2 does
"""


@pytest.mark.slow
def test_when_a_rank_is_killed_the_others_say_so_and_the_run_ends(tmp_path: Path) -> None:
    program = tmp_path / "dying.py"
    program.write_text(DYING_RANK)
    # Without torchrun, which would stop the other rank itself before it speaks.
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    ranks = [
        subprocess.Popen(
            [sys.executable, str(program), str(tmp_path)],
            env={**environment, "WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        wait_for(lambda: (tmp_path / "pid-0").exists() and (tmp_path / "pid-1").exists())
        time.sleep(0.5)  # rank 0 is in the common call by now
        ranks[1].send_signal(signal.SIGKILL)
        killed = time.monotonic()
        _, errors = ranks[0].communicate(timeout=60)
        assert time.monotonic() - killed < 25, "the timeout is 30 s; a death is noticed before"
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    assert ranks[0].returncode == 1
    assert "LostRankError: Rank 0 of 2 waited in 'a pass of the model'" in errors
    assert "Rank 0 of 2 waited in 'sum'" in (tmp_path / "heard").read_text()


def free_port() -> str:
    """A port that is free now."""
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


def wait_for(condition: Any, timeout_s: float = 120.0) -> None:
    """Waits until a condition holds."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def test_a_world_of_one_opens_no_process_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with open_world("cpu") as world:
        assert not torch.distributed.is_initialized()
        assert (world.rank, world.size, world.is_main) == (0, 1, True)
        assert world.sum([1.5, 2.0]) == [1.5, 2.0]
        assert (world.max(3), world.gather("x"), world.broadcast("y")) == (3, ["x"], "y")
        world.barrier()
        module = torch.nn.Linear(2, 2)
        before = module.weight
        world.shard(module)
        assert module.weight is before
        assert world.full_tensor(before, dtype=torch.bfloat16).dtype == torch.bfloat16


def test_variables_that_torchrun_sets_must_all_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match=r"RANK, LOCAL_RANK.*torchrun"), open_world("cpu"):
        pass


def test_gradients_are_clipped_as_torch_clips_them() -> None:
    torch.manual_seed(0)
    parameters = [torch.nn.Parameter(torch.zeros(5, 3)), torch.nn.Parameter(torch.zeros(0))]
    twins = [torch.nn.Parameter(p.detach().clone()) for p in parameters]
    for p, q in zip(parameters, twins, strict=True):
        p.grad = torch.randn_like(p)
        q.grad = p.grad.clone()
    norm = World(device="cpu").clip_gradients(parameters, 0.5)
    theirs = torch.nn.utils.clip_grad_norm_(twins, 0.5)
    assert norm == pytest.approx(float(theirs), rel=1e-6)
    for p, q in zip(parameters, twins, strict=True):
        assert p.grad is not None and q.grad is not None
        torch.testing.assert_close(p.grad, q.grad)


def test_small_gradients_are_not_scaled_up_and_broken_ones_not_touched() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([0.3, 0.4])
    world = World(device="cpu")
    assert world.clip_gradients([parameter], 1.0) == pytest.approx(0.5)
    assert parameter.grad.tolist() == pytest.approx([0.3, 0.4])
    parameter.grad = torch.tensor([float("nan"), 1.0])
    assert not world.clip_gradients([parameter], 1.0) < float("inf")
    assert parameter.grad[1] == 1.0


def test_the_layers_of_a_model_are_found_by_the_names_it_gives(tiny_model_dir: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    found = decoder_layers(torch.nn.Sequential(model))
    assert found == list(model.model.layers)
