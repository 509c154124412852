"""TRL's GRPOTrainer on the workload of `training_env`: one arm of the side-by-side run.

    python -m maskgym.scripts.benchmarks.training_trl MODEL_FOLDER '{"engine": "vllm"}'

TRL runs as it is. Its `rollout_func` plays the episodes turn by turn: all that are still going on are
generated for in one batch, then their tools run side by side on threads (TRL's own tool loop runs them one
after another), then the next turn. Weights, loss, optimiser and everything else are TRL's.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .training_arms import ArmStep, report, wait_for_go
from .training_env import Casting, ScriptedEnv, Workload, length_ids, wanted_length


@dataclass(frozen=True, kw_only=True)
class TRLSetting:
    """How TRL is set up."""

    engine: str = "transformers"
    """"transformers" (`generate`) or "vllm" (colocated)."""
    per_device_batch: int = 16
    """Sequences of a micro-batch."""
    importance_sampling: bool = False
    """TRL's correction between vLLM and trainer, on as shipped; it costs a forward pass."""
    lr: float = 1e-4
    num_tool_threads: int = 64
    dtype: str = "float32"
    gradient_checkpointing: bool = False
    loss_type: str = "dapo"
    gpu_memory_utilization: float = 0.3
    vllm_options: dict[str, Any] = field(default_factory=dict)
    """Defaults of `vllm.LLM` that TRL has no setting for, such as attention_config."""
    workload: dict[str, Any] = field(default_factory=dict)
    """Fields of `Workload` that are not the default."""


class TurnByTurn:
    """TRL's `rollout_func`: episodes of the workload with a barrier after each turn."""

    def __init__(self, setting: TRLSetting, tokenizer: Any) -> None:
        from maskgym.agents.rollouts.chat import Chat

        self.setting = setting
        self.workload = Workload(**setting.workload)
        self.chat = Chat(tokenizer)
        self.lengths = length_ids(tokenizer, self.workload)
        casting = Casting(self.workload)
        self.envs = [ScriptedEnv(self.workload, casting) for _ in range(self.workload.num_episodes)]
        self.tasks = {task.question: task for task in self.workload.tasks()}
        self.threads = ThreadPoolExecutor(setting.num_tool_threads)
        self.num_real = self.num_computed = self.num_sampled = 0
        self.reward = self.seconds = self.engine_s = 0.0

    def __call__(self, prompts: Sequence[str], trainer: Any) -> dict[str, Any]:
        """Plays an episode for each prompt."""
        started_s, self.engine_s = time.perf_counter(), 0.0
        num = len(prompts)
        generate: Callable[[list[list[int]], list[int]], tuple[list[list[int]], Any]]
        generate = _vllm(trainer) if self.setting.engine == "vllm" else _transformers(trainer)
        prompt_ids, context = [], []
        for env, prompt in zip(self.envs, prompts, strict=True):
            observation, _ = env.reset(options={"task": self.tasks[prompt], "scaffold": ""})
            prompt_ids.append(self.chat.prompt_ids(observation["text"]))
            context.append(list(prompt_ids[-1]))
        masks: list[list[int]] = [[] for _ in range(num)]
        logprobs: list[list[float]] = [[] for _ in range(num)]
        rewards = [0.0] * num
        active = list(range(num))
        while active:
            wanted = [wanted_length(context[i], self.lengths) for i in active]
            asked_s = time.perf_counter()
            actions, scores = generate([context[i] for i in active], wanted)
            self.engine_s += time.perf_counter() - asked_s
            steps = list(
                self.threads.map(
                    lambda i, ids: self.envs[i].step(self.chat.action_text(ids)), active, actions
                )
            )
            going_on = []
            for place, (i, ids) in enumerate(zip(active, actions, strict=True)):
                context[i] += ids
                masks[i] += [1] * len(ids)
                logprobs[i] += scores[place] if scores is not None else [0.0] * len(ids)
                observation, reward, is_over, _, _ = steps[place]
                if is_over:
                    rewards[i] = reward
                    continue
                new_ids = self.chat.observation_ids(observation["text"], after_ids=ids)
                context[i] += new_ids
                masks[i] += [0] * len(new_ids)
                logprobs[i] += [0.0] * len(new_ids)
                going_on.append(i)
            active = going_on
        self.num_sampled = sum(map(sum, masks))
        self.num_real = sum(map(len, context))
        # TRL pads prompts and completions of the whole generation batch to the longest of each.
        longest = max(map(len, prompt_ids)) + max(map(len, masks))
        self.num_computed = num * longest
        self.reward = sum(rewards) / num
        self.seconds = time.perf_counter() - started_s
        return {
            "prompt_ids": prompt_ids,
            "completion_ids": [c[len(p) :] for c, p in zip(context, prompt_ids, strict=True)],
            "logprobs": logprobs if self.setting.engine == "vllm" else None,
            "env_mask": masks,
            "earned": rewards,
        }


def _transformers(trainer: Any) -> Callable[[list[list[int]], list[int]], Any]:
    """One `generate` for a batch, padded on the left; it goes on until the longest is done."""
    import torch
    from transformers import GenerationConfig

    model, tokenizer = trainer.model, trainer.processing_class

    def generate(prompts: list[list[int]], wanted: list[int]) -> tuple[list[list[int]], None]:
        longest = max(map(len, prompts))
        pad = tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (longest - len(p)) + p for p in prompts])
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
        config = GenerationConfig(
            max_new_tokens=max(wanted),
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            pad_token_id=pad,
            eos_token_id=None,
            disable_compile=True,
        )
        device = next(model.parameters()).device
        was_training = model.training
        model.eval()
        with torch.no_grad():
            out = model.generate(
                input_ids=ids.to(device), attention_mask=mask.to(device), generation_config=config
            )
        model.train(was_training)
        new = out[:, longest:].tolist()
        return [row[:num] for row, num in zip(new, wanted, strict=True)], None

    return generate


def _vllm(trainer: Any) -> Callable[[list[list[int]], list[int]], Any]:
    """TRL's colocated `LLM`, one call of `generate` for a batch, each prompt with a length of its own."""
    from vllm import SamplingParams

    llm = trainer.vllm_generation.llm

    def generate(prompts: list[list[int]], wanted: list[int]) -> Any:
        params = [
            SamplingParams(
                temperature=1.0, max_tokens=num, ignore_eos=True, logprobs=0, detokenize=False
            )
            for num in wanted
        ]
        inputs = [{"prompt_token_ids": ids} for ids in prompts]
        outputs = llm.generate(inputs, sampling_params=params, use_tqdm=False)
        actions, scores = [], []
        for output in outputs:
            result = output.outputs[0]
            actions.append(list(result.token_ids))
            scores.append(
                [at[t].logprob for t, at in zip(result.token_ids, result.logprobs, strict=True)]
            )
        return actions, scores

    return generate


def run_trl(model_dir: Path, setting: TRLSetting) -> None:
    """Trains for as many steps as the parent asks for."""
    if setting.engine == "vllm":
        _prepare_vllm(setting)
    import torch
    import trl
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

    has_gpu = torch.cuda.is_available()
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=getattr(torch, setting.dtype))
    play = TurnByTurn(setting, tokenizer)
    workload = play.workload
    args = trl.GRPOConfig(
        output_dir=str(model_dir.parent / "trl"),  # nothing is written there
        per_device_train_batch_size=setting.per_device_batch,
        gradient_accumulation_steps=workload.num_episodes // setting.per_device_batch,
        num_generations=workload.group_size,
        max_completion_length=workload.max_sequence_tokens,
        learning_rate=setting.lr,
        lr_scheduler_type="constant",
        optim="adamw_torch_fused",
        adam_beta2=0.95,
        weight_decay=0.0,
        max_grad_norm=1.0,
        beta=0.0,
        loss_type=setting.loss_type,
        scale_rewards="group",
        temperature=1.0,
        top_k=0,
        disable_dropout=True,
        gradient_checkpointing=setting.gradient_checkpointing,
        bf16=setting.dtype == "bfloat16",
        use_cpu=not has_gpu,
        dataloader_pin_memory=False,
        shuffle_dataset=False,
        max_steps=1_000_000,
        save_strategy="no",
        eval_strategy="no",
        report_to=[],
        logging_steps=1,
        disable_tqdm=True,
        use_vllm=setting.engine == "vllm",
        vllm_mode="colocate",
        vllm_importance_sampling_correction=setting.importance_sampling,
        vllm_gpu_memory_utilization=setting.gpu_memory_utilization,
        vllm_max_model_length=workload.max_sequence_tokens + 64,
    )

    class Turnstile(TrainerCallback):  # type: ignore[misc]
        """Waits for the parent before each step, and reports after it."""

        def __init__(self) -> None:
            self.started_s = self.started_cpu_s = 0.0

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self._wait()

        def on_log(
            self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any
        ) -> None:
            # Logs of a step come after it is over: the last thing that TRL does for it.
            total_s = time.perf_counter() - self.started_s
            sync_s, clock.seconds = clock.seconds, 0.0
            report(
                ArmStep(
                    total_s=total_s,
                    cpu_s=time.process_time() - self.started_cpu_s,
                    rollout_s=play.seconds,
                    train_s=total_s - play.seconds - sync_s,
                    sync_s=sync_s,
                    num_episodes=workload.num_episodes,
                    num_sampled=play.num_sampled,
                    num_trained=play.num_sampled,
                    num_real=play.num_real,
                    num_computed=play.num_computed,
                    reward=play.reward,
                    grad_norm=float((logs or {}).get("grad_norm", 0.0)),
                    peak_bytes=torch.cuda.max_memory_allocated() if has_gpu else 0,
                    parts={"engine_s": play.engine_s},
                )
            )
            self._wait()

        def _wait(self) -> None:
            if not wait_for_go():
                sys.stdout.flush()
                os._exit(0)  # vLLM's threads would keep the process
            self.started_s, self.started_cpu_s = time.perf_counter(), time.process_time()

    clock = _Clock()
    trainer = trl.GRPOTrainer(
        model=model,
        reward_funcs=_earned,
        args=args,
        train_dataset=Dataset.from_list([{"prompt": t.question} for t in workload.tasks()]),
        processing_class=tokenizer,
        rollout_func=play,
        callbacks=[Turnstile()],
    )
    if setting.engine == "vllm":
        generation = trainer.vllm_generation
        generation.sync_weights = clock.timed(generation.sync_weights)
    trainer.train()


class _Clock:
    """Adds up the seconds that a function takes."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, function: Callable[[], Any]) -> Callable[[], Any]:
        """The function, watched."""

        def call() -> Any:
            started_s = time.perf_counter()
            try:
                return function()
            finally:
                self.seconds += time.perf_counter() - started_s

        return call


def _earned(completions: Sequence[Any], earned: Sequence[float], **_: Any) -> list[float]:
    """What the environments paid."""
    return list(earned)


def _prepare_vllm(setting: TRLSetting) -> None:
    """Settings that TRL does not hand to vLLM, given as vLLM's own defaults; TRL stays as it is.

    Without them its colocated engine would not start on a CPU (it wants most of the memory), would compile
    for a minute, sample in bfloat16, and pack its weights away so that an update raises.
    """
    import torch

    defaults: dict[str, Any] = {"dtype": setting.dtype, **setting.vllm_options}
    forced: dict[str, Any] = {}
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    if torch.cuda.is_available():
        os.environ["VLLM_USE_FLASHINFER_SAMPLER"] = "0"
    else:
        os.environ["TORCHDYNAMO_DISABLE"] = "1"
        import vllm._custom_ops as ops

        ops._supports_onednn = False
        defaults |= {"enforce_eager": True, "kv_cache_memory_bytes": 256 << 20, "block_size": 32}
        forced = {"gpu_memory_utilization": 0.1}
    import vllm

    original = vllm.LLM.__init__

    def start(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **{**defaults, **kwargs, **forced})

    vllm.LLM.__init__ = start


def main(arguments: Sequence[str]) -> int:
    """A model's folder and the setting as JSON."""
    setting = TRLSetting(**json.loads(arguments[1])) if len(arguments) > 1 else TRLSetting()
    print(json.dumps(asdict(setting)), flush=True)
    run_trl(Path(arguments[0]), setting)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
