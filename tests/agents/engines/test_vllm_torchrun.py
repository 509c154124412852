"""Two ranks of `torchrun`, each with a vLLM engine in its own process and its own world."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("vllm")

from maskgym.agents.engines.engine import Request, SamplingParams
from maskgym.agents.engines.transformers_engine import TransformersEngine

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(600)]


def test_each_rank_samples_from_the_gathered_weights_in_its_own_time(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    program = Path(__file__).with_name("two_ranks.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", str(program), str(tiny_model_dir), str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert ran.returncode == 0, ran.stderr[-3000:]
    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir).eval()
    for version in (1, 2):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.1 * 1.1 if version == 1 else 1.1)
        engine = TransformersEngine(model)
        for rank in (0, 1):
            said = json.loads((tmp_path / f"{rank}.json").read_text())[version - 1]
            params = SamplingParams(max_tokens=8 + 16 * rank, temperature=0.0, ignore_eos=True)
            for i, tokens in enumerate(said):
                prompt = tuple(range(10 + 50 * rank + i, 40 + 50 * rank + i))
                engine.submit(Request(request_id="a", prompt_ids=prompt, params=params))
                done = []
                while engine.num_unfinished:
                    done += engine.poll()
                assert list(done[0].token_ids) == tokens
            assert len(said) == 1 + 2 * rank
