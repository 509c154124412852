"""In: what a model wrote in a tool call. Out: `ToolResult`, the text that comes back.

`SearchTool` asks a retriever, `PythonTool` runs code in a sandbox; a tool of your own is any object
with a name, a description and `call`.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from ..retrieval import Hit, Retriever
from .deadline import within
from .sandbox import ExecResult, ExecStatus, Sandbox, SandboxLimits, Session
from .tasks import Task


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolResult:
    """What a call brought."""

    text: str
    """What the model sees."""
    is_error: bool = False
    """Whether the tool itself failed (backend down, time limit, sandbox), as opposed to a program
    of the model that raised, which is a result like any other."""
    details: tuple[tuple[str, str], ...] = ()
    """Names and values for `info`; equal on every machine, so no clocks. Several `passage_id`s may
    stand here."""


@runtime_checkable
class Tool(Protocol):
    """What a model can call with one string; what it raises becomes an error observation."""

    @property
    def name(self) -> str:
        """The name, which is also its tag."""
        ...

    @property
    def description(self) -> str:
        """One sentence for the model: what it does and what to write."""
        ...

    def call(self, argument: str) -> ToolResult:
        """Does it; `argument` is never empty."""
        ...


@runtime_checkable
class EpisodeTool(Tool, Protocol):
    """A tool that keeps something during an episode, or looks at its task."""

    def begin(self, task: Task) -> None:
        """Called by `reset`: what an earlier episode left is gone."""
        ...

    def close(self) -> None:
        """Called with the environment's `close`; may be called twice."""
        ...


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """How a search tool searches and what the model sees of the hits."""

    top_k: int = 3
    """Passages shown for a query."""
    passage_format: Literal["numbered", "plain", "search-r1"] = "numbered"
    """`[1] Title: text`, `Title text`, or `Doc 1(Title: "Title") text`, each on a line of its
    own."""
    max_passage_chars: int | None = None
    """Characters kept of each passage; None for all."""
    max_query_chars: int = 2000
    """Characters of a query that are searched for; a longer one is cut."""
    timeout_s: float | None = 30.0
    """Seconds to wait for the retriever before the search counts as failed; None waits for ever."""

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise ValueError(f"top_k is {self.top_k}; a search shows at least 1 passage.")
        if self.passage_format not in ("numbered", "plain", "search-r1"):
            raise ValueError(
                f"passage_format is {self.passage_format!r}; use numbered, plain or search-r1."
            )
        if self.max_query_chars < 1:
            raise ValueError(f"max_query_chars is {self.max_query_chars}; use 1 or more.")
        if self.max_passage_chars is not None and self.max_passage_chars < 1:
            raise ValueError(
                f"max_passage_chars is {self.max_passage_chars}; use 1 or more, or None."
            )
        if self.timeout_s is not None and self.timeout_s <= 0:
            raise ValueError(f"timeout_s is {self.timeout_s}; use seconds above 0, or None.")


class SearchTool:
    """Looks a query up with a retriever and shows the best passages."""

    name = "search"

    def __init__(self, retriever: Retriever, config: SearchConfig | None = None) -> None:
        self.retriever = retriever
        self.config = config or SearchConfig()

    @property
    def description(self) -> str:
        """For the model."""
        return "Searches a collection of passages for your query."

    def call(self, argument: str) -> ToolResult:
        """The best passages for a query; their ids are the details named `passage_id`."""
        config = self.config
        query = " ".join(argument[: config.max_query_chars].split())
        answer = within(config.timeout_s, lambda: self.retriever.search([query], config.top_k))
        if len(answer) != 1:
            raise ValueError(f"the retriever gave {len(answer)} lists of hits for one query")
        hits = answer[0][: config.top_k]
        if not hits:
            return ToolResult(text="No passage matches this query.")
        return ToolResult(
            text="\n".join(self._show(rank, hit) for rank, hit in enumerate(hits, start=1)),
            details=tuple(("passage_id", hit.passage.id) for hit in hits),
        )

    def _show(self, rank: int, hit: Hit) -> str:
        title, text = hit.passage.title, hit.passage.text[: self.config.max_passage_chars]
        match self.config.passage_format:
            case "plain":
                return f"{title} {text}".strip()
            case "search-r1":
                return f'Doc {rank}(Title: "{title}") {text}'
            case _:
                return f"[{rank}] {title}: {text}" if title else f"[{rank}] {text}"


class PythonTool:
    """Runs a program in a sandbox and shows what it printed, or how it failed."""

    name = "python"

    def __init__(self, sandbox: Sandbox, limits: SandboxLimits | None = None) -> None:
        self.sandbox = sandbox
        self.limits = limits

    @property
    def description(self) -> str:
        """For the model."""
        return "Runs your Python program from scratch; print what you want to see."

    def call(self, argument: str) -> ToolResult:
        """What the program printed, then what went wrong; a fence around the code is taken off."""
        result = self.sandbox.run(_without_fence(argument), limits=self.limits)
        return ToolResult(
            text=_show_run(result),
            is_error=result.status not in (ExecStatus.OK, ExecStatus.ERROR),
            details=(("status", result.status.value), ("tier", self.sandbox.tier)),
        )


class PythonSessionTool:
    """Runs cells in one interpreter an episode, which keeps its state, and shows what they bring."""

    name = "python"

    def __init__(self, sandbox: Sandbox, limits: SandboxLimits | None = None) -> None:
        self.sandbox = sandbox
        self.limits = limits
        self._session: Session | None = None

    @property
    def description(self) -> str:
        """For the model."""
        return (
            "Runs your Python code; variables stay for your next call, and the value of the last "
            "line is shown."
        )

    def begin(self, task: Task) -> None:
        """Ends the session of the episode before; the next one starts with its first call."""
        self.close()

    def call(self, argument: str) -> ToolResult:
        """What the cell printed and the value of its last line; a dead session starts anew."""
        note = ""
        if self._session is None or not self._session.is_alive:
            note = "" if self._session is None else "Python was started anew; no variable is left."
            self.close()
            self._session = self.sandbox.session(limits=self.limits)
        result = self._session.run_cell(_without_fence(argument))
        return ToolResult(
            text="\n".join(filter(None, (note, _show_run(result)))),
            is_error=result.status not in (ExecStatus.OK, ExecStatus.ERROR),
            details=(("status", result.status.value), ("tier", self.sandbox.tier)),
        )

    def close(self) -> None:
        """Ends the session."""
        if self._session is not None:
            self._session.close()
            self._session = None


def _without_fence(text: str) -> str:
    """The code of a fenced block, or the text; without common indentation."""
    lines = text.strip("\n").rstrip().split("\n")
    if lines[0].lstrip().startswith(("```", "~~~")):
        is_closed = len(lines) > 1 and lines[-1].strip() in ("```", "~~~")
        lines = lines[1:-1] if is_closed else lines[1:]
    return textwrap.dedent("\n".join(lines))


def _show_run(result: ExecResult) -> str:
    ends = {
        ExecStatus.ERROR: "" if result.stderr.strip() else "The program failed.",
        ExecStatus.TIMEOUT: "The program ran out of time and was stopped.",
        ExecStatus.CPU_LIMIT: "The program used up its CPU time and was stopped.",
        ExecStatus.OOM: "The program ran out of memory.",
        ExecStatus.OUTPUT_LIMIT: "The program printed too much and was stopped.",
        ExecStatus.FILE_LIMIT: "The program wrote a file that was too large.",
        ExecStatus.DISK_LIMIT: "The program wrote too much to disk and was stopped.",
        ExecStatus.KILLED: "The program was killed.",
        ExecStatus.ENDED: "The program was not run: Python had ended.",
        ExecStatus.SANDBOX_ERROR: "The program could not be run; this is not its fault.",
    }
    # A warning on standard error never hides what was printed.
    parts = [result.stdout.rstrip(), result.stderr.rstrip(), ends.get(result.status, "")]
    return "\n".join(part for part in parts if part) or "The program printed nothing."
