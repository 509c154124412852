"""Run by `torchrun`: each rank has a vLLM engine of its own beside a model sharded over both ranks."""

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM

from maskgym.agents.engines import vllm_start
from maskgym.agents.engines.engine import Request, SamplingParams
from maskgym.agents.engines.vllm_engine import VLLMEngine, VLLMEngineConfig


def sample(engine: VLLMEngine, rank: int) -> list[tuple[int, ...]]:
    """Greedy tokens; the ranks have different prompts and lengths."""
    params = SamplingParams(max_tokens=8 + 16 * rank, temperature=0.0, ignore_eos=True)
    for i in range(1 + 2 * rank):
        prompt = tuple(range(10 + 50 * rank + i, 40 + 50 * rank + i))
        engine.submit(Request(request_id=f"{i}", prompt_ids=prompt, params=params))
    done: dict[str, tuple[int, ...]] = {}
    while engine.num_unfinished:
        done.update({c.request_id: c.token_ids for c in engine.poll()})
    return [done[name] for name in sorted(done)]


def as_on_the_second_gpu() -> None:
    """Starts vLLM here as `start_vllm` does where the rank's device is not the first one."""
    options, environment = vllm_start.vllm_options, vllm_start.vllm_environment

    def with_launcher(*args: Any, **settings: Any) -> dict[str, Any]:
        backend = {"distributed_executor_backend": "external_launcher"}
        return options(*args, **settings) | backend

    def with_rank(*, is_cpu: bool, device_index: int = 0) -> dict[str, str]:
        return environment(is_cpu=is_cpu, device_index=device_index + 1)

    vllm_start.vllm_options, vllm_start.vllm_environment = with_launcher, with_rank


def learn(model: Any) -> None:
    """A step that needs the ranks' groups, by object and by name."""
    model(input_ids=torch.tensor([[5, 6, 7, 9]])).logits.sum().backward()
    dist.barrier(dist.new_group([0, 1]))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)


def main() -> None:
    """Writes what each engine said to `<folder>/<rank>.json`."""
    model_dir, folder = sys.argv[1], Path(sys.argv[2])
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    said: list[Any] = []
    config = VLLMEngineConfig(kv_cache_bytes=32 << 20)
    model = AutoModelForCausalLM.from_pretrained(model_dir)
    mesh = init_device_mesh("cpu", (2,))
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    if rank == 0:  # an engine on one rank alone waits for nobody
        with closing(VLLMEngine(model_dir, config=config)) as engine:
            sample(engine, rank)
    else:
        as_on_the_second_gpu()
    learn(model)
    with closing(VLLMEngine(model_dir, config=config)) as engine:
        for version in (1, 2):
            learn(model)
            names = [(n, p) for n, p in model.named_parameters() if isinstance(p, DTensor)]
            engine.update_weights(((n, p.full_tensor()) for n, p in names), version=version)
            said.append(sample(engine, rank))
        executor = type(engine._llm.llm_engine.model_executor).__name__
        assert executor == ("UniProcExecutor", "ExecutorWithExternalLauncher")[rank]
        assert dist.get_world_size() == 2
    learn(model)
    (folder / f"{rank}.json").write_text(json.dumps(said))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
