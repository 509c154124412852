"""The search environment's own cost: steps with a retriever that answers from memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

from maskgym.envs import Domain, EpisodeConfig, SearchConfig, SearchEnv, Task
from maskgym.retrieval import Hit, Passage

from .tables import Table

TARGET_US = 100.0
_TEXT = "A passage of a hundred words has about six hundred characters, and so has this one. " * 7
_NUM_SEARCHES = 3


class MemoryRetriever:
    """Gives the same hits to every query, at no cost."""

    fingerprint = "memory"

    def __init__(self, num_hits: int) -> None:
        passages = [
            Passage(id=f"p{n}", title=f"Title {n}", text=_TEXT[:600]) for n in range(num_hits)
        ]
        self._hits = [Hit(passage=passage, score=1.0) for passage in passages]

    def search(self, queries: Sequence[str], top_k: int) -> list[list[Hit]]:
        """The first ``top_k`` of them."""
        return [self._hits[:top_k] for _ in queries]

    def close(self) -> None:
        """Holds nothing."""


def measure_env(num_episodes: int = 2000) -> list[Table]:
    """Microseconds of `step`, by kind of action; resets are not in them."""
    table = Table(
        title="Search environment, microseconds a step without retrieval",
        columns=("setting", "action", "steps", "CPU, mean", "wall, median", "wall, p99"),
        notes=[
            f"Target: less than {TARGET_US:g}. {_NUM_SEARCHES} searches and an answer an episode; "
            "three passages of 600 characters a search."
        ],
    )
    settings = {
        "as by default": SearchConfig(),
        "no time limit": SearchConfig(timeout_s=None),
    }
    for name, config in settings.items():
        env = _env(config)
        _episodes(env, num_episodes // 10)
        for action, (cpu_s, walls_s) in _episodes(env, num_episodes).items():
            walls_s.sort()
            table.add(
                name,
                action,
                len(walls_s),
                1e6 * cpu_s / len(walls_s),
                1e6 * statistics.median(walls_s),
                1e6 * walls_s[int(0.99 * len(walls_s))],
            )
        env.close()
    return [table]


def _env(config: SearchConfig) -> SearchEnv:
    task = Task(task_id="t", question="Who?", answers=("Marie Curie",), domain=Domain.SEARCH)
    return SearchEnv(
        tasks=[task],
        retriever=MemoryRetriever(10),
        search=config,
        config=EpisodeConfig(max_turns=_NUM_SEARCHES + 1),
    )


def _episodes(env: SearchEnv, num: int) -> dict[str, tuple[float, list[float]]]:
    """CPU seconds in all and wall seconds of each step, by action."""
    actions = {
        "search": "<think>I look it up.</think> <search> who won the prize in physics </search>",
        "answer": "<think>That says it.</think> <answer> Marie Curie </answer>",
    }
    script = ["search"] * _NUM_SEARCHES + ["answer"]
    cpu_s = dict.fromkeys(actions, 0.0)
    walls_s: dict[str, list[float]] = {name: [] for name in actions}
    for seed in range(num):
        env.reset(seed=seed)
        for name in script:
            cpu_start_s, start_s = time.process_time(), time.perf_counter()
            _, reward, terminated, _, _ = env.step(actions[name])
            walls_s[name].append(time.perf_counter() - start_s)
            cpu_s[name] += time.process_time() - cpu_start_s
        assert terminated and reward == 1.0, "the script does not answer the question"
    return {name: (cpu_s[name], walls_s[name]) for name in actions}
