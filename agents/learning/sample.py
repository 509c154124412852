"""What the learner learns from: a token sequence with its advantage."""

from dataclasses import dataclass

from ..rollouts.trajectory import TokenSequence


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One sequence of a training batch."""

    sequence: TokenSequence

    advantage: float = 1.0
    """Of its trajectory; every trained token gets it. 1 for imitation."""

    group: str = ""
    """The prompt group; reductions per prompt and the split into updates go by it."""

    @property
    def num_tokens(self) -> int:
        """Trained tokens."""
        return sum(self.sequence.loss_mask)
