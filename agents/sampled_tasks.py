"""An environment that makes up its tasks in, a sequence of them out: what a run trains and evaluates on."""

import hashlib
from collections.abc import Sequence
from typing import overload

from ..envs import Task, TextEnv

SPEC = "env"
_SETTINGS: dict[str, int | str] = {"size": 10_000, "split": "train", "seed": 0}


class SampledTasks(Sequence[Task]):
    """`size` tasks of an environment's own `sample_task`, each a function of its seed, split and index.

    Splits draw with other seeds; where an environment has few tasks they overlap all the same.
    """

    def __init__(
        self, env: TextEnv, *, size: int = 10_000, split: str = "train", seed: int = 0
    ) -> None:
        """Samples nothing yet.

        Raises:
            ValueError: If `size` is not above 0.
        """
        if size < 1:
            raise ValueError(f"size is {size}; give at least 1 task.")
        self._env = env
        self._size = size
        self._key = f"{seed}|{split}"

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> list[Task]: ...
    def __getitem__(self, index: int | slice) -> Task | list[Task]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._size))]
        if not -self._size <= index < self._size:
            raise IndexError(f"Task {index} of {self._size}.")
        key = f"{self._key}|{index % self._size}".encode()
        seed = int.from_bytes(hashlib.blake2b(key, digest_size=4).digest(), "big")
        self._env.reset(seed=seed)
        assert self._env.task is not None
        return self._env.task


def is_sampled(spec: str) -> bool:
    """Whether a description of tasks means those that the environment makes up."""
    return spec.partition(":")[0] == SPEC


def sampled_tasks(spec: str, env: TextEnv) -> SampledTasks:
    """The tasks of "env", or of "env:size=1000,split=test,seed=1".

    Raises:
        ValueError: If a setting is unknown or has a bad value.
    """
    settings = dict(_SETTINGS)
    for item in filter(None, spec.partition(":")[2].split(",")):
        name, _, value = item.partition("=")
        if name not in settings:
            raise ValueError(
                f"{item!r} in {spec!r} is no setting; write it like 'env:size=1000,split=test,seed=1'."
            )
        try:
            settings[name] = value if name == "split" else int(value)
        except ValueError:
            raise ValueError(f"{item!r} in {spec!r} needs a whole number.") from None
    return SampledTasks(env, **settings)  # type: ignore[arg-type]
