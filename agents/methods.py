"""The name of a published method in, the settings that make it out; a recipe's own settings lie above them.

| name | what | source |
|---|---|---|
| `grpo` | group baseline, token clip, mean of sequence means; without the paper's KL term | 2402.03300 |
| `dr_grpo` | no division by standard deviation or length | 2503.20783 |
| `dapo` | higher upper clip, token mean, dynamic sampling, penalty for overlong rollouts | 2503.14476 |
| `rloo` | leave-one-out baseline, whole-sequence REINFORCE | 2402.14740 |
| `gspo` | one ratio a sequence | 2507.18071 |
| `cispo` | clipped ratio as a constant weight | 2506.13585 |
| `luspo` | GSPO times the length | 2602.05261 |
| `dcpo` | clip bounds by token probability; its smoothed advantages over visits are left out | 2509.02333 |
| `psr`, `nsr`, `w_reinforce` | only successes, only failures, successes at a tenth | 2506.01347 |
| `smepo` | every rollout sees the masked trace; clip 0/5, dual clip 3, 4 updates | 2605.25198, scripts |
| `expert_trace` | SMEPO's baseline: the trace unmasked | 2605.25198 |
| `prefix` | SMEPO's ablation: the first quarter of the trace | 2605.25198, its scripts |
| `random_mask` | SMEPO's ablation: as much masked, at random words | 2605.25198; the matching is ours |
| `sft` | imitation alone: 350 steps of 64 traces, three epochs of GSM8K | 2504.14945, README |
| `sft_rl` | the same, then GRPO | 2504.14945, README |
| `rl_sft` | GRPO with imitation in each step | 2504.14945, README; the weight is ours |
| `luffy` | 7 bare rollouts and the expert's own trajectory, shaped p / (p + 0.1) | 2504.14945 |
| `ghpo` | a failed group again with 25, 50, 75 % of the trace | 2507.10628 |
| `ghpo_smepo` | the same over the masked trace, SMEPO's loss | 2605.25198 |
| `guide` | failed groups again with help, credit to the bare prompt | 2506.13923 |
| `sage_light` | a level of help for each task | 2602.03143 |
| `seele` | as much of the trace as makes half succeed | 2509.06923 |
| `dars`, `dars_hw` | more rollouts for hard tasks, equal or hardness-weighted | 2508.13755 |

Sources are arXiv numbers. Where a preset is not the whole method: `luffy` takes GRPO's order of updates and
leaves the expert out where its trace does not solve the task; `guide` shapes p / (p + 0.1) where the paper
divides by the probability under help; `sage_light` shows masked traces instead of hints of the policy's
own; `seele` has a baseline for each share and no imitation of the hint; GRPO's lr and batch stand where a
paper names none.
"""

import difflib
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from .config import merge_settings

Settings = dict[str, Any]


def method_names() -> list[str]:
    """The published methods that there is a preset for."""
    return list(_METHODS)


def method_settings(name: str) -> Settings:
    """The settings of a method, nested as those of `ExperimentConfig`; a fresh copy each time.

    Raises:
        ValueError: If there is no such method; names the nearest.
    """
    if name not in _METHODS:
        near = difflib.get_close_matches(name, _METHODS, n=1, cutoff=0.0)[0]
        raise ValueError(
            f"No method {name!r}. Did you mean {near!r}? There are: {', '.join(_METHODS)}."
        )
    return deepcopy(merge_settings(*_METHODS[name]))


def _loss(**fields: Any) -> Settings:
    return {"learner": {"loss": fields}}


def _guidance(planner: str, **fields: Any) -> Settings:
    return {"trainer": {"guidance": {"planner": planner, **fields}}}


def _advantages(**fields: Any) -> Settings:
    return {"trainer": {"advantages": fields}}


def _supervised(**fields: Any) -> Settings:
    return {"trainer": {"supervised": fields}}


def _batch(tasks_per_step: int, updates: int) -> Settings:
    return {
        "learner": {"updates_per_batch": updates},
        "trainer": {"tasks_per_step": tasks_per_step},
    }


_PLAIN: Settings = {
    "learner": {
        "lr": 1e-6,
        "loss": {"kind": "clip", "clip_low": 0.2, "clip_high": 0.2, "reduction": "sequence"},
    },
    "trainer": {
        "advantages": {"baseline": "mean", "scale": "group"},
        "guidance": {"planner": "bare", "group_size": 8},
        "rollout": {"temperature": 1.0},
    },
}
_SMEPO_LOSS: Settings = {
    "learner": {
        "weight_decay": 0.1,
        "updates_per_batch": 4,
        "warmup_share": 0.1,
        "decay_steps": None,  # to the end of the run
        "loss": {
            "clip_low": 0.0,
            "clip_high": 5.0,
            "dual_clip": 3.0,
            "old_logprobs": "trainer",
        },
    },
    "trainer": {"num_steps": 500, "tasks_per_step": 32, "rollout": {"temperature": 0.8}},
}
_SFT: Settings = {
    "trainer": {"supervised": {"num_steps": 350, "batch_size": 64, "lr": 5e-5, "warmup_share": 0.1}}
}
_ALWAYS: Settings = _guidance("always", policy="all", train_on="guided")
_GHPO: Settings = merge_settings(
    _guidance(
        "escalate",
        ladder=["prefix(0.25)", "prefix(0.5)", "prefix(0.75)"],
        merge="replace_group",
        train_on="guided",
    ),
    _advantages(epsilon=1e-4),
)
_SIGN: Settings = merge_settings(
    _loss(kind="clip", reduction="token"),
    _advantages(baseline="sign", scale="none"),
    _batch(1024, 4),
)
_MASKED_LADDER = ["masked_prefix(0.25)", "masked_prefix(0.5)", "masked_prefix(0.75)"]

_METHODS: Mapping[str, tuple[Settings, ...]] = {
    "grpo": (_PLAIN,),
    "dr_grpo": (
        _PLAIN,
        _loss(reduction="constant", constant_tokens=3000),
        _advantages(scale="none"),
    ),
    "dapo": (
        _PLAIN,
        _loss(clip_high=0.28, reduction="token"),
        _guidance("bare", group_size=16),
        _batch(512, 16),
        {
            "trainer": {
                "dynamic_sampling": True,
                "filters": {
                    "zero_variance": "drop",
                    "overlong": "penalise",
                    "overlong_max_tokens": 20480,
                    "overlong_buffer_tokens": 4096,
                },
            }
        },
    ),
    "rloo": (
        _PLAIN,
        _loss(kind="reinforce", reduction="constant", constant_tokens=1),
        _advantages(baseline="leave_one_out", scale="none"),
    ),
    "gspo": (_PLAIN, _loss(kind="gspo", clip_low=3e-4, clip_high=4e-4), _batch(32, 4)),
    "cispo": (_PLAIN, _loss(kind="cispo", clip_low=1.0, clip_high=4.0, reduction="token")),
    "luspo": (_PLAIN, _loss(kind="luspo", clip_low=2e-3, clip_high=2.5e-3), _batch(32, 4)),
    "dcpo": (_PLAIN, _loss(kind="dcpo", clip_low=0.16, clip_high=0.2)),
    "psr": (_PLAIN, _SIGN, _advantages(negative_weight=0.0)),
    "nsr": (_PLAIN, _SIGN, _advantages(positive_weight=0.0)),
    "w_reinforce": (_PLAIN, _SIGN, _advantages(positive_weight=0.1)),
    "smepo": (_PLAIN, _SMEPO_LOSS, _ALWAYS),
    "expert_trace": (_PLAIN, _SMEPO_LOSS, _ALWAYS, _guidance("always", policy="none")),
    "prefix": (_PLAIN, _SMEPO_LOSS, _ALWAYS, _guidance("always", policy="prefix(0.25)")),
    "random_mask": (_PLAIN, _SMEPO_LOSS, _ALWAYS, _guidance("always", policy="random_matched")),
    "sft": (_PLAIN, _SFT, {"trainer": {"num_steps": 0}}),
    "sft_rl": (_PLAIN, _SFT),
    "rl_sft": (_PLAIN, _supervised(mix="likelihood", mix_weight=0.1)),
    "luffy": (
        _PLAIN,
        _loss(
            clip_low=1.0,
            clip_high=1e6,  # no clip on the policy's own tokens either
            reduction="constant",
            constant_tokens=8192,
            entropy_coef=0.001,
            off_policy_gamma=0.1,
        ),
        _advantages(scale="none"),
        _guidance("bare", group_size=7),
        _supervised(mix="expert_row"),
        _batch(128, 2),
    ),
    "ghpo": (_PLAIN, _GHPO),
    "ghpo_smepo": (_PLAIN, _SMEPO_LOSS, _GHPO, _guidance("escalate", ladder=_MASKED_LADDER)),
    "guide": (
        _PLAIN,
        _loss(off_policy_gamma=0.1),
        _guidance("rescue", policy="all", train_on="bare"),
        {"trainer": {"filters": {"zero_variance": "drop"}}},
        _batch(128, 2),
    ),
    "sage_light": (
        _PLAIN,
        _loss(clip_high=0.28),
        _guidance("levels", ladder=_MASKED_LADDER, raise_below=0.1, lower_above=0.35),
        _batch(128, 2),
    ),
    "seele": (
        _PLAIN,
        _loss(kl_coef=0.001),
        _advantages(scale="none"),
        _guidance("adaptive", policy="prefix", num_rounds=4, target_accuracy=0.5),
        _batch(256, 4),
    ),
    "dars": (_PLAIN, _guidance("budget", budget="et", max_rollouts=32)),
    "dars_hw": (_PLAIN, _guidance("budget", budget="hw", max_rollouts=64)),
}
