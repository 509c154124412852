"""How long a run is, how often it looks, and which parts make its steps: the settings of the trainer."""

from dataclasses import dataclass, field

from .alarms import AlarmConfig
from .guidance.config import GuidanceConfig
from .guidance.supervised import SupervisedConfig
from .learning.advantages import AdvantageConfig
from .learning.filters import FilterConfig
from .rollouts.rollout_config import RolloutConfig
from .trackers import check_trackers


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """How long, how often, how many."""

    num_steps: int = 100
    """Steps of the run: each is one batch of rollouts and the updates that it gives."""

    tasks_per_step: int = 16
    """Tasks played in each step; each gets the planner's group of rollouts."""

    seed: int = 0
    """Fixes the order of tasks and what is sampled."""

    eval_every: int = 20
    """Steps between bare evaluations; 0 for only the first and the last."""

    checkpoint_every: int = 10
    """Steps between checkpoints; the last step always has one."""

    keep_checkpoints: int = 2
    """Newest checkpoints that stay on disk, beside the one of the best evaluation."""

    trajectories_every: int = 1
    """Steps between saved trajectory files; 1 keeps every trajectory."""

    max_failed_steps: int = 5
    """Steps in a row whose rollouts were all ended by an error (a dead retrieval service, say) before the
    run ends, with a checkpoint."""

    dynamic_sampling: bool = False
    """Whether a task whose rollouts teach nothing is replaced by the next one, until `tasks_per_step`
    tasks do or `rollout.max_groups` were played. Source: Yu et al. 2025, arXiv:2503.14476 (DAPO)."""

    advantages: AdvantageConfig = field(default_factory=AdvantageConfig)
    filters: FilterConfig = field(default_factory=FilterConfig)
    guidance: GuidanceConfig = field(default_factory=GuidanceConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)

    supervised: SupervisedConfig = field(default_factory=SupervisedConfig)
    alarms: AlarmConfig = field(default_factory=AlarmConfig)

    trackers: tuple[str, ...] = ("tensorboard",)
    """Where curves go beside `metrics.jsonl`: "tensorboard", "wandb"; [] for neither."""

    def __post_init__(self) -> None:
        for name in (
            "tasks_per_step",
            "checkpoint_every",
            "keep_checkpoints",
            "trajectories_every",
            "max_failed_steps",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        for name in ("num_steps", "eval_every", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it is not below 0.")
        if self.num_steps + self.supervised.num_steps < 1:
            raise ValueError(f"num_steps is {self.num_steps}; a run needs at least 1 step.")
        check_trackers(self.trackers)
