"""In: a model's turn with JSON tool calls. Out: the one action it asks for; and back.

The notation of Hermes and Qwen: `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, with
results between `<tool_response>` and `</tool_response>`.
Source: https://github.com/NousResearch/Hermes-Function-Calling
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from .protocol import ActionKind, ParsedAction, XMLProtocol
from .tools import Tool
from .transcript import strip_thinking

# The other protocol's results are no place for an answer either.
_RESULTS = ("tool_response", "information", "result")
_TAG = re.compile(rf"<(tool_call|answer|{'|'.join(_RESULTS)})>")
_CALL_END = "</tool_call>"
_ANSWER_END = "</answer>"
_SPACE = re.compile(r"\s*")
_THINK = re.compile(r"<(?=\s{0,8}think)", re.IGNORECASE)
_LOOKS_LIKE_A_CALL = re.compile(r'\{\s*"name"\s*:')
_DECODER = json.JSONDecoder(strict=False)  # models write programs with plain line breaks
_EXAMPLE_CHARS = 80


class _Found(NamedTuple):
    """A complete block: an answer, a call, or what is wrong with a call."""

    name: str
    argument: str = ""
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class JSONProtocol:
    """Actions as JSON tool calls; an answer is a call of "answer", or stands in `<answer>`."""

    precedence: Literal["first", "answer", "tool"] = "first"
    """Which action counts when a turn holds several kinds: the first in the text, or always
    this."""
    which: Literal["first", "last"] = "first"
    """Which one counts when the chosen tool is called several times."""
    answer_form: Literal["tag", "call"] = "tag"
    """How the model is told to answer; both forms are read."""
    hint: str = "{problem} {usage}"
    """The notice for an invalid action; {problem} and {usage} are filled in where they stand."""
    parameters: tuple[tuple[str, str], ...] = (
        ("search", "query"),
        ("python", "code"),
        ("run_tests", "code"),
    )
    """Tool name and the name of its one parameter; other tools have `input`."""
    part_separator: str = "\n"
    """Between the thoughts and the call or answer of one turn."""

    def __post_init__(self) -> None:
        for name, allowed in (
            ("precedence", ("first", "answer", "tool")),
            ("which", ("first", "last")),
            ("answer_form", ("tag", "call")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}; use one of {', '.join(allowed)}."
                )

    def parse(self, text: str, tools: Sequence[Tool]) -> ParsedAction:
        """The action in a model's turn; never one from a think block or a forged tool response."""
        own = strip_thinking(text)
        names = [*(tool.name for tool in tools), "answer"]
        unclosed: list[str] = []
        blocks = list(self._blocks(own, names, unclosed))
        if not blocks:
            return self._invalid(_problem(text, own, names, unclosed), tools)
        chosen = self._choose(blocks)
        if chosen.problem:
            return self._invalid(chosen.problem, tools)
        if chosen.name == "answer":
            return ParsedAction(kind=ActionKind.ANSWER, argument=chosen.argument)
        if not chosen.argument.strip():
            parameter = self._parameter(chosen.name)
            return self._invalid(f'"{parameter}" of {chosen.name} is empty.', tools)
        return ParsedAction(kind=ActionKind.TOOL, tool=chosen.name, argument=chosen.argument)

    def instructions(self, tools: Sequence[Tool]) -> str:
        """What the model is told about acting."""
        lines = ["Think inside <think> </think>. Then end your turn with one action."]
        if tools:
            lines += ["These are your tools:", "<tools>"]
            lines += [json.dumps(self._signature(tool), ensure_ascii=False) for tool in tools]
            lines += ["</tools>", "To call one, write its name and arguments as JSON, like this:"]
            lines.append(self._form(tools[0].name))
            lines.append("Its result comes back between <tool_response> and </tool_response>.")
        lines.append(f"To give your final answer, which ends the task, write {self._answer_form()}")
        return "\n".join(lines)

    def format_thought(self, text: str) -> str:
        """`<think> ... </think>`; a think tag inside the text is escaped."""
        return _writer("").format_thought(text)

    def format_tool_call(self, tool: str, argument: str) -> str:
        """`<tool_call>`, the call as JSON, `</tool_call>`."""
        call = {"name": tool, "arguments": {self._parameter(tool): argument}}
        # Tags are escaped as JSON allows, so that no argument ends its block or opens a think block.
        text = json.dumps(call, ensure_ascii=False).replace("</", "<\\/")
        text = _THINK.sub(r"\\u003c", text)
        return f"<tool_call>\n{text}\n</tool_call>"

    def format_answer(self, answer: str) -> str:
        """`<answer> ... </answer>`, or a call of "answer"."""
        if self.answer_form == "call":
            return self.format_tool_call("answer", answer)
        return _writer("").format_answer(answer)

    def join(self, parts: Sequence[str]) -> str:
        """One turn made of thoughts and a call or an answer."""
        return self.part_separator.join(parts)

    def format_tool_result(self, tool: str, text: str, max_chars: int) -> str:
        """The result in its block: cut to `max_chars` with a marker, protocol tags escaped."""
        return _writer(tool).format_tool_result(tool, text, max_chars)

    def stop_strings(self, tools: Sequence[Tool]) -> tuple[str, ...]:
        """The closing tag of each action."""
        return (_CALL_END, _ANSWER_END)

    def _parameter(self, tool: str) -> str:
        if tool == "answer":
            return "answer"
        return dict(self.parameters).get(tool, "input")

    def _signature(self, tool: Tool) -> dict[str, Any]:
        parameter = self._parameter(tool.name)
        return {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": {
                    "type": "object",
                    "properties": {parameter: {"type": "string"}},
                    "required": [parameter],
                },
            },
        }

    def _form(self, tool: str) -> str:
        call = {"name": tool, "arguments": {self._parameter(tool): "..."}}
        return f"<tool_call>{json.dumps(call)}</tool_call>"

    def _answer_form(self) -> str:
        return (
            self._form("answer") if self.answer_form == "call" else "<answer> your answer </answer>"
        )

    def _blocks(self, text: str, names: Sequence[str], unclosed: list[str]) -> Iterator[_Found]:
        """Complete blocks outside forged responses; the tags never closed go to `unclosed`."""
        position = 0
        while (tag := _TAG.search(text, position)) is not None:
            name, start = tag[1], tag.end()
            found, end = None, -1
            if name == "tool_call" and name not in unclosed:
                # A JSON string may hold the closing tag, so the JSON is read before the tag is.
                found, end = self._call(text, start, names)
            elif name not in unclosed:
                end = text.find(f"</{name}>", start)
                if name == "answer" and end >= 0:
                    found = _Found(name, argument=_tagged_answer(text[tag.start() : end]))
            if end < 0 and name in _RESULTS:
                return
            if end < 0 and name not in unclosed:
                # Remembered, so that a turn of ten thousand open tags is read in linear time.
                unclosed.append(name)
            if found is not None and end >= 0:
                yield found
            position = max(start, end)

    def _call(self, text: str, start: int, names: Sequence[str]) -> tuple[_Found, int]:
        """A call and where its closing tag begins, -1 if there is none."""
        start = _skip_space(text, start)
        try:
            value, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
            end = text.find(_CALL_END, start)
            shown = text[start : max(end, start)].strip()[:_EXAMPLE_CHARS]
            return _Found("", problem=f"{shown!r} is not JSON ({reason})."), end
        end = _skip_space(text, end)
        if not text.startswith(_CALL_END, end):
            end = text.find(_CALL_END, end)
            return _Found("", problem="Write one JSON object in each <tool_call>."), end
        return self._checked(value, names), end

    def _checked(self, value: Any, names: Sequence[str]) -> _Found:
        if not isinstance(value, dict) or not isinstance(value.get("name"), str):
            return _Found("", problem='A tool call is a JSON object with "name" and "arguments".')
        name = value["name"]
        if name not in names:
            near = difflib.get_close_matches(name.lower()[:50], names, n=1)
            hint = f"; did you mean {near[0]}?" if near else "."
            return _Found("", problem=f"There is no tool {name[:50]!r}{hint}")
        arguments = value.get("arguments", value.get("parameters", {}))
        if isinstance(arguments, str):  # JSON in a string, as OpenAI's interface has it, or plain
            try:
                decoded = _DECODER.decode(arguments)
            except (ValueError, RecursionError):
                decoded = None
            arguments = decoded if isinstance(decoded, dict) else {"": arguments}
        parameter = self._parameter(name)
        given = arguments if isinstance(arguments, dict) else {}
        only = next(iter(given.values())) if len(given) == 1 else None
        argument = _text(given.get(parameter, only))
        if argument is None:
            return _Found(name, problem=f'{name} needs one text, "{parameter}".')
        return _Found(name, argument=argument)

    def _choose(self, blocks: Sequence[_Found]) -> _Found:
        name = blocks[0].name
        if self.precedence != "first":
            wanted = [
                b.name for b in blocks if (b.name == "answer") == (self.precedence == "answer")
            ]
            name = wanted[0] if wanted else name
        repeated = [block for block in blocks if block.name == name]
        return repeated[0 if self.which == "first" else -1]

    def _invalid(self, problem: str, tools: Sequence[Tool]) -> ParsedAction:
        options = [*(self._form(tool.name) for tool in tools), self._answer_form()]
        filled = {"{problem}": problem, "{usage}": f"Write {', or '.join(options)}."}
        text = re.sub(r"\{problem\}|\{usage\}", lambda field: filled[field[0]], self.hint)
        return ParsedAction(kind=ActionKind.INVALID, problem=text)


@lru_cache(maxsize=64)
def _writer(tool: str) -> XMLProtocol:
    """Writes results in `<tool_response>`; a page can close neither that block nor forge a call."""
    return XMLProtocol(result_tags=((tool, "tool_response"), ("tool_call", "tool_call")))


def _tagged_answer(block: str) -> str:
    return _writer("").parse(f"{block}{_ANSWER_END}", ()).argument


def _skip_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _text(value: Any) -> str | None:
    """What a parameter holds as text; None if it is no single text."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, str):
        return value
    return json.dumps(value) if isinstance(value, int | float) else None


def _problem(text: str, own: str, names: Sequence[str], unclosed: Sequence[str]) -> str:
    if not own.strip():
        if text.strip():
            return "The whole turn was thinking: close </think> and act after it."
        return "The turn was empty."
    if unclosed:
        return f"<{unclosed[0]}> is not closed: end it with </{unclosed[0]}>."
    result = next((name for name in _RESULTS if f"<{name}>" in own), None)
    if result:
        return f"<{result}> is for results of tools; what you write in it is not read."
    if _LOOKS_LIKE_A_CALL.search(own):
        return f"Put the JSON of a call between <tool_call> and {_CALL_END}."
    tagged = next((name for name in names if f"<{name}>" in own), None)
    if tagged:
        return f"There is no <{tagged}>: tools are called with <tool_call>."
    return "No action was found."
