"""Our trainer on the workload of `training_env`: one arm of the side-by-side run.

    python -m maskgym.scripts.benchmarks.training_ours MODEL_FOLDER '{"engine": "vllm"}'

The parts are those that `maskgym train` puts together: `play_groups`, `advantages_of`, `Learner`, an
engine. Only the length of each turn is written down, by `AskedLengths` around the engine.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maskgym.agents.engines.engine import EngineConfig, open_engine
from maskgym.agents.guidance.config import GuidanceConfig, make_planner
from maskgym.agents.learning.advantages import AdvantageConfig, advantages_of
from maskgym.agents.learning.learner import Learner, LearnerConfig
from maskgym.agents.learning.losses import LossConfig
from maskgym.agents.learning.model_folder import load_model
from maskgym.agents.learning.sample import Sample
from maskgym.agents.rollouts.chat import Chat, load_tokenizer
from maskgym.agents.rollouts.env_pool import EnvPool
from maskgym.agents.rollouts.rollout import RolloutConfig, play_groups
from maskgym.agents.rollouts.trajectory import Trajectory

from .training_arms import ArmStep, report, wait_for_go
from .training_env import AskedLengths, Casting, ScriptedEnv, Workload


@dataclass(frozen=True, kw_only=True)
class OurSetting:
    """How our trainer is set up; the rest is its defaults."""

    engine: str = "vllm"
    micro_batch_tokens: int = 8192
    packing: str = "packed"
    share_prompts: bool = True
    old_logprobs: str = "engine"
    """"engine" (no pass for old log-probabilities) or "trainer" (decoupled, truncated per token)."""
    lr: float = 1e-4
    num_tool_threads: int = 64
    dtype: str = "float32"
    gradient_checkpointing: bool = False
    engine_options: dict[str, Any] = field(default_factory=dict)
    """Fields of the engine's configuration."""
    workload: dict[str, Any] = field(default_factory=dict)
    """Fields of `Workload` that are not the default."""


class OurTrainer:
    """One process with engine, environments and learner."""

    def __init__(self, model_dir: Path, setting: OurSetting) -> None:
        self.setting = setting
        self.workload = Workload(**setting.workload)
        casting = Casting(self.workload)
        tokenizer = load_tokenizer(model_dir)
        self.chat = Chat(tokenizer)
        self.envs = EnvPool(lambda: ScriptedEnv(self.workload, casting))
        config = EngineConfig(
            max_model_len=self.workload.max_sequence_tokens + 64,
            max_num_seqs=self.workload.num_episodes,
            dtype=setting.dtype,
        )
        if setting.engine_options:
            config = _vllm_config(config, setting.engine_options)
        self.engine = AskedLengths(
            open_engine(model_dir, name=setting.engine, config=config), tokenizer, self.workload
        )
        is_decoupled = setting.old_logprobs == "trainer"
        self.learner = Learner(
            load_model(model_dir, dtype=setting.dtype),
            LearnerConfig(
                lr=setting.lr,
                micro_batch_tokens=setting.micro_batch_tokens,
                packing=setting.packing,
                share_prompts=setting.share_prompts,
                precision=setting.dtype,
                gradient_checkpointing=setting.gradient_checkpointing,
                loss=LossConfig(
                    old_logprobs=setting.old_logprobs,
                    importance="token" if is_decoupled else "none",
                ),
            ),
        )
        self.planner = make_planner(
            GuidanceConfig(planner="bare", group_size=self.workload.group_size)
        )
        self.rollout = RolloutConfig(
            max_tokens_per_turn=self.workload.max_tokens, num_env_workers=setting.num_tool_threads
        )
        self.step_index = 0

    def step(self) -> ArmStep:
        """Rollouts, one optimiser step, and the new weights into the engine."""
        started_s, started_cpu_s = time.perf_counter(), time.process_time()
        self.engine.num_sampled = 0
        self.step_index += 1
        groups = self.play(seed=self.step_index)
        played_s = time.perf_counter()
        samples = samples_of(groups)
        stats = self.learner.policy_update(samples)
        trained_s = time.perf_counter()
        self.engine.update_weights(self.learner.named_weights(), version=self.step_index)
        ended_s = time.perf_counter()
        trajectories = [trajectory for group in groups for trajectory in group]
        return ArmStep(
            total_s=ended_s - started_s,
            cpu_s=time.process_time() - started_cpu_s,
            rollout_s=played_s - started_s,
            train_s=trained_s - played_s,
            sync_s=ended_s - trained_s,
            num_episodes=len(trajectories),
            num_sampled=self.engine.num_sampled,
            num_trained=stats.num_tokens,
            num_real=sum(len(sample.sequence.ids) for sample in samples),
            num_computed=stats.num_row_tokens + stats.num_padding,
            reward=float(np.mean([t.reward for t in trajectories])),
            grad_norm=stats.grad_norm,
            peak_bytes=torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0,
            parts={**asdict(stats.times), "logprob_gap": stats.logprob_gap},
        )

    def play(self, *, seed: int) -> list[list[Trajectory]]:
        """The rollouts of a step, group by group."""
        return play_groups(
            self.engine,
            self.chat,
            self.envs,
            self.workload.tasks(),
            self.planner,
            self.rollout,
            seed=seed,
        )

    def close(self) -> None:
        """Closes engine and environments."""
        self.envs.close()
        self.engine.close()


def samples_of(groups: Sequence[Sequence[Trajectory]]) -> list[Sample]:
    """Training samples with the advantages of GRPO."""
    advantages = advantages_of(
        [np.array([t.reward for t in group]) for group in groups], AdvantageConfig()
    )
    return [
        Sample(sequence=sequence, advantage=float(value), group=trajectory.group)
        for group, values in zip(groups, advantages, strict=True)
        for trajectory, value in zip(group, values, strict=True)
        for sequence in trajectory.sequences()
    ]


def _vllm_config(config: EngineConfig, options: dict[str, Any]) -> EngineConfig:
    from maskgym.agents.engines.vllm_engine import VLLMEngineConfig

    return VLLMEngineConfig(**{**asdict(config), **options})


def main(arguments: Sequence[str]) -> int:
    """A model's folder and the setting as JSON."""
    setting = OurSetting(**json.loads(arguments[1])) if len(arguments) > 1 else OurSetting()
    trainer = OurTrainer(Path(arguments[0]), setting)
    while wait_for_go():
        report(trainer.step())
    trainer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
