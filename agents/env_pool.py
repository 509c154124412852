"""A way to make an environment in, environments for one episode at a time out."""

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol


class Episode(Protocol):
    """What a rollout needs of an environment: a text environment of maskgym, or one like it."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, str], dict[str, Any]]:
        """Begins an episode."""

    def step(self, action: str) -> tuple[dict[str, str], float, bool, bool, dict[str, Any]]:
        """Answers one action."""

    def close(self) -> None:
        """Frees what the environment holds."""


class EnvPool:
    """Environments that are made once and used by one episode at a time."""

    def __init__(self, make_env: Callable[[], Any]) -> None:
        self._make_env = make_env
        self._idle: deque[Episode] = deque()
        self._all: list[Episode] = []

    def acquire(self) -> Episode:
        """An idle environment, or a new one."""
        if self._idle:
            return self._idle.pop()
        env: Episode = self._make_env()
        self._all.append(env)
        return env

    def release(self, env: Episode) -> None:
        """Takes an environment back; not one that raised or hangs."""
        self._idle.append(env)

    def close(self) -> None:
        """Closes every environment made here."""
        for env in self._all:
            env.close()
        self._idle.clear()
        self._all.clear()
