"""The numbers of a step in, warnings out: what goes wrong without an exception."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class AlarmConfig:
    """Limits above or below which a step's numbers are worth a warning."""

    max_logprob_gap: float = 0.1
    """Mean |trainer - engine| log-probability, nats a token: stale weights, another temperature, or too
    low a precision. In float32 it is about 1e-6, in bfloat16 0.01 to 0.04."""

    max_truncated_share: float = 0.5
    """Share of rollouts that a limit ended: their rewards are 0 and say nothing."""

    max_flat_share: float = 0.9
    """Share of groups whose rewards are all equal: they teach nothing."""

    min_entropy: float = 0.01
    """Mean entropy, nats a token: below it the policy no longer explores."""

    max_copied_share: float = 0.5
    """Share of sampled tokens that are copied from the scaffold: copying does not transfer to bare
    prompts."""

    max_failed_share: float = 0.2
    """Share of rollouts that an environment, a verifier or the engine ended."""


def alarms_of(row: Mapping[str, Any], config: AlarmConfig) -> dict[str, str]:
    """Warnings about one row of training metrics, by the metric; one that is None or missing raises none.

    Args:
        row: Metrics by the names of `metrics.jsonl`.
        config: The limits.
    """
    found: dict[str, str] = {}
    checks = (
        (
            "train/logprob_gap",
            config.max_logprob_gap,
            "engine and trainer differ by {value:.3f} nats a token; stale engine weights, another "
            "temperature, or too low a precision",
        ),
        (
            "truncated_share",
            config.max_truncated_share,
            "{value:.0%} of the rollouts ended at a limit; raise the turns, the tokens of a turn or of "
            "an episode",
        ),
        (
            "zero_variance_groups",
            config.max_flat_share,
            "{value:.0%} of the groups have equal rewards and teach nothing; take easier or harder "
            "tasks, more rollouts a group, or a planner that helps",
        ),
        (
            "copied_share",
            config.max_copied_share,
            "{value:.0%} of what was sampled is copied from the scaffold; mask more",
        ),
        (
            "failed_share",
            config.max_failed_share,
            "{value:.0%} of the rollouts were ended by an error and are not trained on; see `error` in "
            "the trajectories",
        ),
    )
    for name, limit, text in checks:
        value = row.get(name)
        if value is not None and value > limit:
            found[name] = text.format(value=value)
    entropy = row.get("train/entropy")
    if entropy is not None and row.get("train/num_tokens") and entropy < config.min_entropy:
        found["train/entropy"] = (
            f"entropy is {entropy:.4f} nats a token; the policy hardly explores: a lower learning rate or "
            "a higher clip_high keeps it up"
        )
    if skipped := row.get("train/num_skipped"):
        found["train/num_skipped"] = (
            f"{skipped} update was left out: its loss or gradient was not finite; weights are as before"
        )
    return found
