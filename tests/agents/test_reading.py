"""Reading exercises."""

from typing import Any

import numpy as np
import pytest

from maskgym.agents.reading import ReadingConfig, ReadingExercises

KEYS = [f"word{i}" for i in range(8)]
VALUES = [f"word{i}" for i in range(100, 140)]


def test_only_values_that_can_be_looked_up_are_trained_on(tiny_tokenizer: Any) -> None:
    exercises = ReadingExercises(tiny_tokenizer, keys=KEYS, values=VALUES)
    sequence = exercises.sample(np.random.default_rng(0))
    length = len(sequence.ids) // 3
    assert sum(sequence.loss_mask[:length]) == 0
    told: dict[tuple[int, ...], int] = {}
    for i, (token, mask) in enumerate(zip(sequence.ids, sequence.loss_mask, strict=True)):
        key = sequence.ids[max(0, i - 2) : i]
        if mask:
            assert told[key] == token
        told[key] = token
    assert sum(sequence.loss_mask) == 12


def test_exercises_are_a_function_of_the_generator(tiny_tokenizer: Any) -> None:
    exercises = ReadingExercises(tiny_tokenizer, keys=KEYS, values=VALUES)
    first, again, other = (exercises.sample(np.random.default_rng(s)) for s in (1, 1, 2))
    assert first == again
    assert first != other


def test_too_few_keys_are_refused(tiny_tokenizer: Any) -> None:
    with pytest.raises(ValueError, match="give more keys"):
        ReadingExercises(tiny_tokenizer, keys=KEYS[:3], values=VALUES)
    with pytest.raises(ValueError, match="at least 2"):
        ReadingConfig(num_rounds=1)
