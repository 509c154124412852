"""In: a model's turn as text. Out: the one action it asks for; and back, how each part is written.

`ActionProtocol` is what environments and experts need; `XMLProtocol` is the one with tags. Another
notation (JSON tool calls, say) is another class with the same methods.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice
from typing import Literal, NamedTuple, Protocol

from .tools import Tool
from .transcript import strip_thinking


class ActionKind(StrEnum):
    """What a turn turned out to be."""

    TOOL = "tool"
    ANSWER = "answer"
    INVALID = "invalid"


@dataclass(frozen=True, kw_only=True, slots=True)
class ParsedAction:
    """The one action of a turn."""

    kind: ActionKind
    tool: str = ""
    """TOOL: the name of the tool."""
    argument: str = ""
    """TOOL: what to call it with. ANSWER: the answer."""
    problem: str = ""
    """INVALID: what is wrong and what to write instead, in words for the model."""


class ActionProtocol(Protocol):
    """How actions are read and how everything the model sees is written."""

    def parse(self, text: str, tools: Sequence[Tool]) -> ParsedAction:
        """The action in a model's turn; never one from a think block or a forged tool result."""
        ...

    def instructions(self, tools: Sequence[Tool]) -> str:
        """What the model is told about acting."""
        ...

    def format_thought(self, text: str) -> str:
        """A thought as the model writes it."""
        ...

    def format_tool_call(self, tool: str, argument: str) -> str:
        """A call as the model writes it."""
        ...

    def format_answer(self, answer: str) -> str:
        """An answer as the model writes it."""
        ...

    def join(self, parts: Sequence[str]) -> str:
        """One turn made of thoughts and a call or an answer."""
        ...

    def format_tool_result(self, tool: str, text: str, max_chars: int) -> str:
        """A result as the model sees it: cut to `max_chars`, unable to close its own block."""
        ...

    def stop_strings(self, tools: Sequence[Tool]) -> tuple[str, ...]:
        """Where sampling of a turn can stop, since the action is complete."""
        ...


class _Block(NamedTuple):
    name: str
    body: str


_SEARCH_R1_HINT = (
    "My previous action is invalid. If I want to search, I should put the query between <search> "
    "and </search>. If I want to give the final answer, I should put the answer between <answer> "
    "and </answer>. Let me try again."
)
# Spaces and names are bounded, so that no turn and no page takes quadratic time.
_TAG_NAME = re.compile(r"<\s{0,8}/?\s{0,8}([A-Za-z_][\w-]{0,30})\s{0,8}>")
_MAX_TAGS_EXPLAINED = 50
_CUT_MARKER = " [... cut: {} characters in all]"


@dataclass(frozen=True, kw_only=True)
class XMLProtocol:
    """Actions as tags: `<search> query </search>` and likewise `<python>` and `<answer>`."""

    precedence: Literal["first", "answer", "tool"] = "first"
    """Which action counts when a turn holds several kinds: the first in the text, or always
    this."""
    which: Literal["first", "last"] = "first"
    """Which block counts when the chosen tag is repeated."""
    untagged: Literal["invalid", "answer"] = "invalid"
    """What a turn without a complete tag is: an invalid action, or as a whole the answer."""
    hint: str = "{problem} {usage}"
    """The notice for an invalid action; {problem} and {usage} are filled in where they stand."""
    result_tags: tuple[tuple[str, str], ...] = (("search", "information"), ("python", "result"))
    """Tool name and the tag around its results; other tools use `result`."""
    block_separator: str = "\n"
    """Between the tags of a tool result and its text."""
    part_separator: str = " "
    """Between the thoughts and the call or answer of one turn."""

    def __post_init__(self) -> None:
        for name, allowed in (
            ("precedence", ("first", "answer", "tool")),
            ("which", ("first", "last")),
            ("untagged", ("invalid", "answer")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}; use one of {', '.join(allowed)}."
                )

    @classmethod
    def preset(cls, name: str) -> XMLProtocol:
        """The convention of a suite by its name: maskgym, search-r1, skyrl, verl-tool, gem."""
        if name not in PRESETS:
            near = difflib.get_close_matches(name, PRESETS, n=1, cutoff=0.0)[0]
            raise LookupError(
                f"No protocol preset {name!r}. Did you mean {near!r}? "
                f"There are: {', '.join(PRESETS)}."
            )
        return replace(PRESETS[name])

    def parse(self, text: str, tools: Sequence[Tool]) -> ParsedAction:
        """The action in a model's turn; never one from a think block or a forged tool result."""
        own = strip_thinking(text)
        names = [*(tool.name for tool in tools), "answer"]
        unclosed: list[str] = []
        blocks = list(self._blocks(own, names, unclosed))
        if not blocks:
            whole = self._without_forged(own) if self.untagged == "answer" else ""
            if whole:
                return ParsedAction(kind=ActionKind.ANSWER, argument=whole)
            return self._invalid(self._problem(text, own, names, unclosed), tools)
        chosen = self._choose(blocks)
        if chosen.name == "answer":
            return ParsedAction(kind=ActionKind.ANSWER, argument=chosen.body)
        if not chosen.body:
            return self._invalid(f"<{chosen.name}> is empty.", tools)
        return ParsedAction(kind=ActionKind.TOOL, tool=chosen.name, argument=chosen.body)

    def instructions(self, tools: Sequence[Tool]) -> str:
        """What the model is told about acting."""
        lines = ["Think inside <think> </think>. Then end your turn with one of these:"]
        for tool in tools:
            result = self._result_tag(tool.name)
            lines.append(
                f"<{tool.name}> ... </{tool.name}>: {tool.description} "
                f"What it brings comes back between <{result}> and </{result}>."
            )
        lines.append("<answer> ... </answer>: your final answer; it ends the task.")
        return "\n".join(lines)

    def format_thought(self, text: str) -> str:
        """`<think> ... </think>`; a think tag inside the text is escaped."""
        return _wrap("think", _escape(text, ["think"]))

    def format_tool_call(self, tool: str, argument: str) -> str:
        """`<tool> argument </tool>`."""
        return _wrap(tool, argument)

    def format_answer(self, answer: str) -> str:
        """`<answer> ... </answer>`."""
        return _wrap("answer", answer)

    def join(self, parts: Sequence[str]) -> str:
        """One turn made of thoughts and a call or an answer."""
        return self.part_separator.join(parts)

    def format_tool_result(self, tool: str, text: str, max_chars: int) -> str:
        """The result in its block: cut to `max_chars` with a marker, protocol tags escaped."""
        body = _escape(text.strip(), self._reserved(tool))
        if len(body) > max_chars:
            marker = _CUT_MARKER.format(len(body))
            body = body[: max(0, max_chars - len(marker))] + marker
        tag = self._result_tag(tool)
        return f"<{tag}>{self.block_separator}{body}{self.block_separator}</{tag}>"

    def stop_strings(self, tools: Sequence[Tool]) -> tuple[str, ...]:
        """The closing tag of each action."""
        return (*(f"</{tool.name}>" for tool in tools), "</answer>")

    def _result_tag(self, tool: str) -> str:
        return dict(self.result_tags).get(tool, "result")

    def _result_tags(self) -> set[str]:
        # JSON tool calls bring their results as tool_response: chat models forge that as well.
        return {"result", "tool_response", *(tag for _, tag in self.result_tags)}

    def _without_forged(self, text: str) -> str:
        tags = "|".join(map(re.escape, sorted(self._result_tags())))
        return re.sub(rf"<({tags})>.*?(?:</\1>|\Z)", " ", text, flags=re.DOTALL).strip()

    def _reserved(self, tool: str) -> list[str]:
        tools = (name for name, _ in self.result_tags)
        return ["think", "answer", tool, *tools, *sorted(self._result_tags())]

    def _blocks(self, text: str, names: Sequence[str], unclosed: list[str]) -> Iterator[_Block]:
        """Complete blocks outside forged results; the names never closed go to `unclosed`."""
        forged = self._result_tags() - set(names)
        opening = re.compile(f"<({'|'.join(map(re.escape, [*names, *sorted(forged)]))})>")
        position = 0
        while (tag := opening.search(text, position)) is not None:
            name = tag[1]
            end = -1 if name in unclosed else text.find(f"</{name}>", tag.end())
            if name in forged:
                if end < 0:
                    return
                position = end
            elif end < 0:
                # Remembered, so that a turn of ten thousand open tags is read in linear time.
                if name not in unclosed:
                    unclosed.append(name)
                position = tag.end()
            else:
                yield _Block(name, _trim(text[tag.end() : end]))
                position = end

    def _choose(self, blocks: Sequence[_Block]) -> _Block:
        name = blocks[0].name
        if self.precedence != "first":
            wanted = [
                b.name for b in blocks if (b.name == "answer") == (self.precedence == "answer")
            ]
            name = wanted[0] if wanted else name
        repeated = [block for block in blocks if block.name == name]
        return repeated[0 if self.which == "first" else -1]

    def _problem(self, text: str, own: str, names: Sequence[str], unclosed: Sequence[str]) -> str:
        if not own.strip():
            is_all_thinking = bool(text.strip())
            return (
                "The whole turn was thinking: close </think> and act after it."
                if is_all_thinking
                else "The turn was empty."
            )
        if unclosed:
            return f"<{unclosed[0]}> is not closed: end it with </{unclosed[0]}>."
        found = dict.fromkeys(tag[1] for tag in _TAG_NAME.finditer(own))
        for name in islice(found, _MAX_TAGS_EXPLAINED):
            if name in self._result_tags():
                return f"<{name}> is for results of tools; what you write in it is not read."
            near = difflib.get_close_matches(name.lower(), names, n=1)
            if near and name not in names:
                return f"There is no <{name}>; did you mean <{near[0]}>?"
        return "No action was found."

    def _invalid(self, problem: str, tools: Sequence[Tool]) -> ParsedAction:
        options = [f"<{tool.name}> ... </{tool.name}>" for tool in tools]
        usage = f"Write {', or '.join([*options, '<answer> your answer </answer>'])}."
        filled = {"{problem}": problem, "{usage}": usage}
        text = re.sub(r"\{problem\}|\{usage\}", lambda field: filled[field[0]], self.hint)
        return ParsedAction(kind=ActionKind.INVALID, problem=text)


PRESETS: dict[str, XMLProtocol] = {
    "maskgym": XMLProtocol(),
    "search-r1": XMLProtocol(hint=_SEARCH_R1_HINT, block_separator=""),
    "skyrl": XMLProtocol(precedence="answer", block_separator=""),
    "verl-tool": XMLProtocol(precedence="tool", which="last", block_separator=""),
    "gem": XMLProtocol(precedence="tool", untagged="answer", block_separator=""),
}
"""Conventions of suites, as far as tags go; a hint is given also where the suite gives none."""


def _trim(body: str) -> str:
    """Inline text without the spaces around it; a block keeps its first line's indentation."""
    first, newline, rest = body.partition("\n")
    if newline and not first.strip() and rest.strip():
        lines = rest.rstrip().split("\n")
        return "\n".join(lines[next(i for i, line in enumerate(lines) if line.strip()) :])
    return body.strip()


def _wrap(tag: str, body: str) -> str:
    edge = "\n" if "\n" in body or body[:1].isspace() else " "
    return f"<{tag}>{edge}{body}{edge}</{tag}>"


def _escape(text: str, names: Sequence[str]) -> str:
    # `<|...|>` as well: a page must not forge the end of a chat message either.
    pattern = (
        rf"<(?=\s{{0,8}}/?\s{{0,8}}(?:{'|'.join(map(re.escape, names))})\b|\|[A-Za-z0-9_]+\|>)"
    )
    return re.sub(pattern, "&lt;", text, flags=re.IGNORECASE)
