"""From losses of tokens to one number: the weight of each sequence's tokens in an optimiser step.

A weight depends on totals of the whole optimiser step only, so the sum over micro-batches and ranks is
the undivided loss, however the step is cut. Dividing each micro-batch by its own count instead gives
gradients that are wrong by up to the ratio of their lengths (TRL issue 5619).
"""

# N: sequences of one rank in an optimiser step

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

REDUCTIONS = ("token", "sequence", "prompt", "constant")


@dataclass(frozen=True, slots=True)
class StepTotals:
    """What an optimiser step holds over all its micro-batches and ranks.

    On several ranks: ``StepTotals(*world.sum(astuple(step_totals(lengths, groups))))``, where each group
    lies on one rank.
    """

    num_tokens: float
    """Trained tokens, those of advantage 0 included: leaving a group out of the computation must not
    raise the step size of the others."""

    num_sequences: float
    """Sequences with a trained token."""

    num_groups: float
    """Prompt groups with a trained token."""


def step_totals(lengths_N: Sequence[int], groups_N: Sequence[str]) -> StepTotals:
    """The totals of one rank's sequences.

    Args:
        lengths_N: [N], trained tokens of each sequence.
        groups_N: [N], the prompt group of each.
    """
    used = [group for group, length in zip(groups_N, lengths_N, strict=True) if length]
    return StepTotals(float(sum(lengths_N)), float(len(used)), float(len(set(used))))


def reduction_weights(
    reduction: str,
    *,
    lengths_N: Sequence[int],
    groups_N: Sequence[str],
    totals: StepTotals,
    constant_tokens: int | None = None,
    group_tokens: Mapping[str, float] | None = None,
) -> Array:
    """Weight of every token of each sequence, so that the step's loss is ``sum(weight * loss)``.

    With T_i the trained tokens of sequence i, totals being those of the step:

    - "token": ``1 / num_tokens``: every token counts the same. Source: DAPO, arXiv:2503.14476.
    - "sequence": ``1 / (num_sequences T_i)``: every sequence counts the same; tokens of long ones count
      less. Source: GRPO, arXiv:2402.03300.
    - "prompt": ``1 / (num_groups sum of T over the group)``: every prompt counts the same, inside it every
      token. The formula printed in DAPO, where its code takes "token".
    - "constant": ``1 / (num_sequences constant_tokens)``: every token counts the same, and a step of short
      answers has a smaller gradient. Source: Dr. GRPO, arXiv:2503.20783.

    Args:
        reduction: Which of the four.
        lengths_N: [N], trained tokens of each sequence.
        groups_N: [N], the prompt group of each.
        totals: Of the whole optimiser step, all ranks.
        constant_tokens: For "constant".
        group_tokens: For "prompt": trained tokens of each group in the whole step. Default: counted from
            `lengths_N`, which is right where every group lies whole in it.

    Returns:
        [N]; 0 for a sequence without trained tokens.

    Raises:
        ValueError: If `reduction` is unknown, the step has no token, or "constant" has no length.
    """
    lengths = np.asarray(lengths_N, dtype=np.float64)
    if len(groups_N) != len(lengths):
        raise ValueError(f"{len(lengths)} lengths but {len(groups_N)} groups; give one each.")
    if totals.num_tokens <= 0:
        raise ValueError("The optimiser step has no token to learn from (num_tokens is 0).")
    if reduction == "token":
        denominators = np.full(len(lengths), totals.num_tokens)
    elif reduction == "sequence":
        denominators = totals.num_sequences * lengths
    elif reduction == "prompt":
        if group_tokens is None:
            counted: Counter[str] = Counter()
            for group, length in zip(groups_N, lengths, strict=True):
                counted[group] += int(length)
            group_tokens = counted
        tokens = np.array([float(group_tokens[group]) for group in groups_N])
        denominators = totals.num_groups * tokens
    elif reduction == "constant":
        if constant_tokens is None:
            raise ValueError("Reduction 'constant' needs constant_tokens, the length to divide by.")
        denominators = np.full(len(lengths), totals.num_sequences * constant_tokens)
    else:
        raise ValueError(f"No reduction {reduction!r}; choose one of {', '.join(REDUCTIONS)}.")
    weights = np.zeros(len(lengths))
    np.divide(1.0, denominators, out=weights, where=lengths > 0)
    return weights
