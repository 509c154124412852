"""In: questions and passages. Out: `SearchEnv`, the environment `maskgym/Search-v0`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from ..retrieval import BM25Index, Retriever
from .base import TextEnv
from .shared_retrievers import RetrieverLease, lease_retriever
from .task_mix import TaskMix
from .tasks import Domain, Task, TaskSource
from .testbed import FictionalWorld, testbed
from .tools import SearchConfig, SearchTool, Tool
from .verdicts import Grade
from .verifiers import verify_search


class SearchEnv(TextEnv):
    """A question to answer from passages; by default about the testbed's fictional world.

    **Observation**: the question at reset; after a search, the best passages.

    **Action**: `<search> query </search>`, or `<answer> ... </answer>`.

    **Reward**: in [0, 1]: 1.0 when the answer equals one of the task's, as `verify_search`
    compares.

    **Episode end**: terminated by an answer, truncated by a limit of `EpisodeConfig`.
    """

    domain: ClassVar[Domain] = Domain.SEARCH

    def __init__(
        self,
        *,
        retriever: Retriever | str | Path | None = None,
        search: SearchConfig | None = None,
        tools: Sequence[Tool | str] = ("search",),
        **settings: Any,
    ) -> None:
        """As `TextEnv`, which refuses a setting that it does not know.

        Args:
            retriever: What searches; or the folder of an index or the address of a service
                (``http://host:port``), which this environment then closes. None for the pages of
                the testbed.
            search: How it searches and what the model sees.
            tools: What the model may call; "search" names the search tool.
            settings: For `TextEnv`.
        """
        self._search = search or SearchConfig()
        self._lease: RetrieverLease | None = None
        if isinstance(retriever, str | Path):
            self._lease = lease_retriever(retriever, timeout_s=self._search.timeout_s)
            retriever = self._lease.retriever
        self._retriever = retriever
        try:
            super().__init__(tools=tools, **settings)
        except BaseException:
            if self._lease is not None:
                self._lease.close()
            raise

    @property
    def retriever(self) -> Retriever:
        """What searches."""
        if self._retriever is None:
            sources = self.tasks.sources if isinstance(self.tasks, TaskMix) else (self.tasks,)
            worlds = {
                (source.split, source.seed, source.num_people)
                for source in sources
                if isinstance(source, FictionalWorld)
            }
            if len(worlds) != 1 or not all(isinstance(s, FictionalWorld) for s in sources):
                raise ValueError(
                    "These tasks bring no passages of their own, or those of several worlds: pass "
                    "retriever=, for instance the folder of an index made by `maskgym index`."
                )
            self._retriever = _world_index(*worlds.pop())
        return self._retriever

    def close(self) -> None:
        """As `TextEnv`; an index or a service that was named is closed with the last user."""
        super().close()
        if self._lease is not None:
            self._lease.close()

    def default_tasks(self) -> TaskSource:
        """Questions of level 2 about a fictional world."""
        return testbed(self.domain)

    def grade(self, task: Task, answer: str) -> Grade:
        """Whether `answer` equals one of the task's answers after normalisation."""
        return verify_search(answer, task.answers)

    def make_tool(self, name: str) -> Tool:
        """The tool called `name`: "search" or "python"."""
        if name == "search":
            return SearchTool(self.retriever, self._search)
        return super().make_tool(name)


def retrieval_recall(
    gold: Sequence[str], passage_ids: Sequence[Sequence[str]]
) -> tuple[float, ...]:
    """Share of the gold passages that was shown up to each turn: ``|gold & shown| / |gold|``.

    >>> retrieval_recall(["a", "b"], [["x", "a"], [], ["b", "a"]])
    (0.5, 0.5, 1.0)

    Args:
        gold: Ids of the gold passages, at least one.
        passage_ids: Of each turn, the ids of the passages that it showed, as in ``info``.

    Returns:
        One share a turn, in [0, 1], never falling.

    Raises:
        ValueError: If there is no gold passage, so that no recall is defined.
    """
    wanted = set(gold)
    if not wanted:
        raise ValueError("There are no gold passages; recall is defined for one or more.")
    shown: set[str] = set()
    recalls = []
    for ids in passage_ids:
        shown |= wanted.intersection(ids)
        recalls.append(len(shown) / len(wanted))
    return tuple(recalls)


@lru_cache(maxsize=8)
def _world_index(split: str, seed: int, num_people: int) -> Retriever:
    # All levels of a world share its pages, and all environments of a process share their index.
    return BM25Index.build(
        FictionalWorld(level=1, split=split, seed=seed, num_people=num_people).passages()
    )
