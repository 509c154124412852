"""What every rank of `test_distributed.py` does: started by torchrun, or called with a world of one.

torchrun --nproc-per-node 2 ranks_program.py MODEL_DIR FOLDER
"""

import random
import resource
import sys
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from maskgym.agents.checkpoints import CheckpointError, load_checkpoint, save_checkpoint
from maskgym.agents.distributed import World, open_world
from maskgym.agents.learning.learner import Learner
from maskgym.agents.learning.learner_config import LearnerConfig
from maskgym.agents.learning.lora import LoRAConfig
from maskgym.agents.learning.losses import LossConfig
from maskgym.agents.learning.sample import Sample
from maskgym.agents.rollouts.trajectory import TokenSequence

NUM_STEPS = 3
# Rank 0 gets three of four groups and the longest sequences: several micro-batches against one.
GROUPS_OF_RANK = (("a", "b", "c"), ("d",))
CONFIG = LearnerConfig(
    lr=1e-4,
    weight_decay=0.01,
    max_grad_norm=0.05,
    micro_batch_tokens=160,
    loss=LossConfig(kl_coef=0.1, entropy_coef=0.01),
)
CONFIGS = {
    "float32": CONFIG,
    "updates": replace(
        CONFIG,
        updates_per_batch=2,
        gradient_checkpointing=True,
        loss=LossConfig(reduction="sequence", old_logprobs="trainer", importance="token"),
    ),
    "offload": replace(CONFIG, offload_optimiser=True),
    "bfloat16": replace(CONFIG, precision="bfloat16"),
    "lora": replace(CONFIG, lora=LoRAConfig(rank=4)),
}


@cache
def load_model(model_dir: str | Path) -> Any:
    """The model of a folder, in float32."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    return AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)


@cache
def make_samples(model_dir: str | Path, step: int, groups: tuple[str, ...]) -> list[Sample]:
    """The samples of some groups in a step; a function of its arguments alone.

    Their log-probabilities are those of the model and a little off, as an engine's are.
    """
    made = []
    for group in groups:
        is_flat = group == "d" and step == 2  # then the rank that has it has nothing to compute
        rng = random.Random(f"{step}|{group}")
        prompt = [rng.randrange(10, 300) for _ in range(rng.randint(8, 40))]
        for member in range(4):
            actions = [rng.randrange(10, 300) for _ in range(rng.randint(3, 40))]
            ids = (*prompt, *actions)
            with torch.no_grad():
                logits = load_model(model_dir)(torch.tensor([ids])).logits[0].log_softmax(-1)
            sampled = [
                float(logits[i - 1, ids[i]]) + rng.gauss(0, 0.1)
                for i in range(len(prompt), len(ids))
            ]
            made.append(
                Sample(
                    sequence=TokenSequence(
                        ids=ids,
                        loss_mask=(0,) * len(prompt) + (1,) * len(actions),
                        logprobs=(*[0.0] * len(prompt), *sampled),
                    ),
                    advantage=0.0 if is_flat else [-1.0, 0.5, 1.5, 0.0][member],
                    group=group,
                )
            )
    return made


def samples_of(world: World, model_dir: str | Path, step: int) -> list[Sample]:
    """This rank's part of the global batch; the whole batch in a world of one."""
    groups = GROUPS_OF_RANK[world.rank] if world.size > 1 else sum(GROUPS_OF_RANK, ())
    return make_samples(model_dir, step, groups)


def make_learner(
    world: World,
    model_dir: str | Path,
    config: LearnerConfig,
    *,
    reference_dir: str | Path | None = None,
) -> Learner:
    """A learner on the model of a folder, which is the reference too unless another is given."""
    torch.manual_seed(world.rank)  # adapters are drawn: ranks must end up with the same ones
    model, reference = (deepcopy(load_model(d)) for d in (model_dir, reference_dir or model_dir))
    return Learner(model, config, world=world, reference=reference)


def local_numel(parameter: Any) -> int:
    """Numbers of a sharded parameter that are on this rank."""
    return int(parameter.to_local().numel())


def weights_of(learner: Learner) -> dict[str, torch.Tensor]:
    """Copies of the whole weights; all ranks call it."""
    return {name: weight.detach().float().clone() for name, weight in learner.named_weights()}


def train(
    world: World,
    learner: Learner,
    model_dir: str | Path,
    *,
    first: int = 1,
    last: int = NUM_STEPS,
) -> dict[str, Any]:
    """Some steps on the batches of those steps, sampled by the model of a folder."""
    stats = [
        learner.policy_update(samples_of(world, model_dir, step)) for step in range(first, last + 1)
    ]
    return {
        "losses": [s.loss for s in stats],
        "norms": [s.grad_norm for s in stats],
        "entropies": [s.entropy for s in stats],
        "weights": weights_of(learner),
    }


def save(
    world: World, learner: Learner, model_dir: str | Path, folder: Path, **options: Any
) -> Any:
    """A checkpoint with each rank's number in its state."""
    from transformers import AutoTokenizer

    return save_checkpoint(
        folder,
        options.pop("step", 2),
        learner=learner,
        tokenizer=AutoTokenizer.from_pretrained(model_dir),
        state={"ranks": world.gather(world.rank)},
        world=world,
        **options,
    )


def resumed(world: World, model_dir: str | Path, checkpoint: Path) -> dict[str, Any]:
    """The last step, in a fresh learner that continues a checkpoint of the step before."""
    learner = make_learner(world, checkpoint / "model", CONFIG, reference_dir=model_dir)
    state = load_checkpoint(checkpoint, learner=learner, world=world)
    return {**train(world, learner, model_dir, first=NUM_STEPS), "ranks": state["ranks"]}


def save_with_a_full_disk_on_one_rank(
    world: World, learner: Learner, model_dir: str | Path, folder: Path
) -> str:
    """What this rank hears when the last rank's files may not grow above 20 kB."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    if world.rank == world.size - 1:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        save(world, learner, model_dir, folder, step=9)
    except CheckpointError as error:
        return str(error)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    return "written"


def main() -> None:
    """All of it on two ranks; rank 0 writes what came out."""
    torch.set_num_threads(1)
    model_dir, folder = sys.argv[1], Path(sys.argv[2])
    with open_world("cpu", timeout_s=60) as world:
        out: dict[str, Any] = {
            "sum": world.sum([world.rank + 0.5, 1.0]),
            "max": world.max(world.rank),
            "gather": world.gather({"rank": world.rank}),
            "broadcast": world.broadcast(f"from {world.rank}"),
        }
        for name, config in CONFIGS.items():
            learner = make_learner(world, model_dir, config)
            out[name] = train(world, learner, model_dir)
            if name == "float32":
                shares = [local_numel(p) for p in learner.model.parameters()]
                out["num_local"] = world.gather(sum(shares))
            if name == "bfloat16":
                out["shard_types"] = {str(p.dtype) for p in learner.model.parameters()}
        learner = make_learner(world, model_dir, CONFIG)
        train(world, learner, model_dir, last=NUM_STEPS - 1)
        saved = save(world, learner, model_dir, folder / "of_two")
        out["resumed"] = resumed(world, model_dir, saved)
        out["resumed_from_one"] = resumed(world, model_dir, folder / "of_one" / "step-000002")
        out["full_disk"] = world.gather(
            save_with_a_full_disk_on_one_rank(world, learner, model_dir, folder / "of_two")
        )
        out["after_full_disk"] = train(world, learner, model_dir, first=NUM_STEPS)
        if world.is_main:
            torch.save(out, folder / "out.pt")


if __name__ == "__main__":
    main()
