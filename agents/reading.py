"""Keys and values in, reading exercises out: random facts, told again and again in other orders.

A transformer from scratch learns to look a fact up in its context only after a long plateau; exercises
that ask for a look-up at every third token end the plateau within a hundred steps. They hold no fact of
any task: keys and values are paired at random each time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .rollouts.chat import Tokenizer
from .rollouts.trajectory import TokenSequence


@dataclass(frozen=True, kw_only=True)
class ReadingConfig:
    """Shape of an exercise."""

    num_facts: int = 6
    """Different facts in one exercise."""

    num_rounds: int = 3
    """How often all facts are told; from the second round on, values can be looked up."""

    def __post_init__(self) -> None:
        if self.num_facts < 2 or self.num_rounds < 2:
            raise ValueError(
                f"num_facts is {self.num_facts} and num_rounds {self.num_rounds}; both need at least 2."
            )


class ReadingExercises:
    """Makes exercises of the form ``. mentor Corin . spouse Dara . spouse Dara . mentor Corin``."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        keys: Sequence[str],
        values: Sequence[str],
        config: ReadingConfig | None = None,
    ) -> None:
        self.config = config or ReadingConfig()
        if len(keys) < self.config.num_facts:
            raise ValueError(
                f"{len(keys)} keys cannot make {self.config.num_facts} different facts; give more keys."
            )
        self._keys = [tokenizer.encode(f". {key}", add_special_tokens=False) for key in keys]
        self._values = [tokenizer.encode(value, add_special_tokens=False) for value in values]

    def sample(self, rng: np.random.Generator) -> TokenSequence:
        """One exercise; loss mask 1 on the values from the second round on."""
        config = self.config
        chosen = rng.choice(len(self._keys), config.num_facts, replace=False)
        facts = [
            (self._keys[key], self._values[value])
            for key, value in zip(
                chosen, rng.integers(len(self._values), size=config.num_facts), strict=True
            )
        ]
        ids: list[int] = []
        mask: list[int] = []
        for round_index in range(config.num_rounds):
            for place in rng.permutation(config.num_facts):
                key, value = facts[place]
                ids += [*key, *value]
                mask += [0] * len(key) + [int(round_index > 0)] * len(value)
        return TokenSequence(ids=tuple(ids), loss_mask=tuple(mask), logprobs=(0.0,) * len(ids))
