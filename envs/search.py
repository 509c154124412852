"""In: questions and passages. Out: `SearchEnv`, the environment `maskgym/Search-v0`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from ..retrieval import BM25Index, Retriever, load_index
from .base import TextEnv
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
            retriever: What searches, or the folder of an index; None for the pages of the testbed.
            search: How it searches and what the model sees.
            tools: What the model may call; "search" names the search tool.
            settings: For `TextEnv`.
        """
        self._retriever = load_index(retriever) if isinstance(retriever, str | Path) else retriever
        self._search = search or SearchConfig()
        super().__init__(tools=tools, **settings)

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


@lru_cache(maxsize=8)
def _world_index(split: str, seed: int, num_people: int) -> Retriever:
    # All levels of a world share its pages, and all environments of a process share their index.
    return BM25Index.build(
        FictionalWorld(level=1, split=split, seed=seed, num_people=num_people).passages()
    )
