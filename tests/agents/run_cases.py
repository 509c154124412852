"""Small runs on a real environment and engine."""

from pathlib import Path
from typing import Any

from maskgym.agents.experiment import ExperimentConfig
from maskgym.agents.guidance.config import GuidanceConfig
from maskgym.agents.learning.learner_config import LearnerConfig
from maskgym.agents.rollouts.rollout_config import RolloutConfig
from maskgym.agents.run_folder import RunFolder
from maskgym.agents.trainer_config import TrainerConfig
from maskgym.envs import EpisodeConfig


def experiment(model: Path, **trainer: Any) -> ExperimentConfig:
    settings: dict[str, Any] = {
        "num_steps": 3,
        "tasks_per_step": 2,
        "checkpoint_every": 1,
        "eval_every": 2,
        "trackers": (),
        "guidance": GuidanceConfig(planner="mixed", group_size=4),
        "rollout": RolloutConfig(max_tokens_per_turn=8, num_env_workers=0),
    }
    return ExperimentConfig(
        env_id="maskgym/Search-v0",
        model=str(model),
        train_tasks="testbed:level=1",
        eval_tasks="testbed:level=1,split=test",
        num_eval_tasks=4,
        engine="transformers",
        max_model_len=400,
        episode=EpisodeConfig(instructions="", max_turns=2),
        learner=LearnerConfig(lr=1e-3),
        trainer=TrainerConfig(**(settings | trainer)),
    )


def without_times(folder: RunFolder) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "time"} for row in folder.metrics()]
