"""Trace formats: a trajectory as others write it, text or messages, in; an expert trace out.

Known are ReAct and FireAct ("Thought: ... Action: search[...]"), Search-R1 (``<think>``,
``<search>``, ``<information>``, ``<answer>``), MINT (``<thought>``, ``<execute>``, ``<solution>``)
and chat messages, with tool calls or with any of these inside.
"""

import difflib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from .traces import ExpertTrace, TraceTurn, TurnKind

Messages = Sequence[Mapping[str, Any]]

_LINE = re.compile(
    r"^[ \t]*(?:(Thought|Action|Action Input|Observation|Answer|Final Answer)(?: ?\d+)?"
    r"|(Question|Claim)(?: ?\d+)?):[ \t]*",
    re.MULTILINE,
)
_CALL = re.compile(r"\s*([A-Za-z_][\w -]{0,40}?)\s*\[")
_R1_TAG = re.compile(r"<(/?)(think|search|information|answer)>")
_MINT_TAG = re.compile(r"<(/?)(thought|execute|solution)>|^Observation:", re.MULTILINE)
_SPEAKER = re.compile(r"(?:\s*Assistant[:\uff1a])+")
_INSTRUCTION = "### Response:"
_R1_KINDS = {
    "think": (TurnKind.THOUGHT, ""),
    "search": (TurnKind.TOOL_CALL, "search"),
    "information": (TurnKind.TOOL_RESULT, "search"),
    "answer": (TurnKind.ANSWER, ""),
}
_MINT_KINDS = {
    "thought": (TurnKind.THOUGHT, ""),
    "execute": (TurnKind.TOOL_CALL, "python"),
    "solution": (TurnKind.ANSWER, ""),
}


def parse_trace(source: str | Messages, format: str = "auto") -> ExpertTrace:
    """The turns of a trajectory: thoughts, tool calls, tool results and answers.

    Each turn's text is a part of the source as it stands there, without the markers around it;
    only a tool call's JSON arguments are decoded if they are a single string. The question, system
    messages and instructions are left out, as they are no work of the expert.

    Args:
        source: The trajectory, as text or as messages with "role" and "content".
        format: One of FORMATS, or "auto"; a text without any marker is one thought if its format
            is named.

    Raises:
        LookupError: If there is no such format.
        ValueError: If the source is in none of the formats, or holds several trajectories.
    """
    if format != "auto" and format not in FORMATS:
        nearest = difflib.get_close_matches(format, FORMATS, n=1, cutoff=0.0)[0]
        raise LookupError(
            f"No trace format {format!r}. Did you mean {nearest!r}? "
            f"There are: auto, {', '.join(FORMATS)}."
        )
    if not isinstance(source, str):
        if format not in ("auto", "chat"):
            raise ValueError(
                f"Messages are of the format 'chat', not {format!r}; what is written inside of "
                "them is told apart by itself."
            )
        return ExpertTrace(turns=tuple(_chat_turns(source)))
    if format == "chat":
        raise ValueError('The format "chat" takes a list of messages, not text; parse its JSON.')
    name = _format_of(source) if format == "auto" else format
    if name is None:
        raise ValueError(
            f"The text {source[:60]!r} is in no known trace format ({', '.join(FORMATS)}). Name "
            "its format, or take it as one thought with ExpertTrace.from_text(text)."
        )
    return ExpertTrace(turns=tuple(_TEXT_FORMATS[name](source)))


def _format_of(text: str) -> str | None:
    if _MINT_TAG.search(text) and re.search(r"<(?:thought|execute|solution)>", text):
        return "mint"
    if _R1_TAG.search(text):
        return "search_r1"
    return "react" if any(match[1] for match in _LINE.finditer(text)) else None


def _turn(kind: TurnKind, text: str, tool: str = "") -> Iterator[TraceTurn]:
    text = text.strip()
    if text:
        yield TraceTurn(kind=kind, text=text, tool=tool)


def _react_turns(text: str) -> Iterator[TraceTurn]:
    """Turns of "Thought 1: ...", "Action 1: Search[...]", "Observation 1: ..." and "Answer: ..."."""
    instruction = text.find(_INSTRUCTION)
    if instruction >= 0:
        text = text[instruction + len(_INSTRUCTION) :]
    markers = list(_LINE.finditer(text))
    num_questions = sum(match[2] is not None for match in markers)
    if num_questions > 1:
        raise ValueError(
            f"The text holds {num_questions} questions; split it before each and give one "
            "trajectory at a time."
        )
    yield from _turn(TurnKind.THOUGHT, text[: markers[0].start()] if markers else text)
    tool = ""
    for index, marker in enumerate(markers):
        end = markers[index + 1].start() if index + 1 < len(markers) else len(text)
        content = text[marker.end() : end]
        name = marker[1]
        if name == "Thought":
            yield from _turn(TurnKind.THOUGHT, content)
        elif name == "Observation":
            yield from _turn(TurnKind.TOOL_RESULT, content, tool)
        elif name in ("Answer", "Final Answer"):
            yield from _turn(TurnKind.ANSWER, content)
        elif name == "Action Input":
            yield from _turn(TurnKind.TOOL_CALL, content, tool)
        elif name == "Action":
            is_split = index + 1 < len(markers) and markers[index + 1][1] == "Action Input"
            if is_split:
                tool = content.strip().lower()
                continue
            tool, argument = _call(content)
            kind = TurnKind.ANSWER if tool == "finish" else TurnKind.TOOL_CALL
            yield from _turn(kind, argument, "" if tool == "finish" else tool)


def _call(content: str) -> tuple[str, str]:
    """Tool and argument of "Search[Milhouse]"; no tool if it is not written so."""
    match = _CALL.match(content)
    if match is None:
        return "", content
    end = content.rfind("]")
    return match[1].lower(), content[match.end() : end if end >= match.end() else len(content)]


def _search_r1_turns(text: str) -> Iterator[TraceTurn]:
    """Turns of tagged text; a tag that is never closed ends where the next opens."""
    kind, tool = TurnKind.THOUGHT, ""
    at = 0
    inside = ""
    for tag in _R1_TAG.finditer(text):
        if inside == "information" and (tag[1], tag[2]) != ("/", "information"):
            continue  # a document may say anything
        yield from _turn(kind, text[at : tag.start()].removesuffix("</"), tool)
        at = tag.end()
        inside = "" if tag[1] else tag[2]
        kind, tool = _R1_KINDS.get(inside, (TurnKind.THOUGHT, ""))
    yield from _turn(kind, text[at:], tool)


def _mint_turns(text: str) -> Iterator[TraceTurn]:
    """Turns of thoughts, Python programs, their observations and solutions."""
    kind, tool = TurnKind.THOUGHT, ""
    at = 0
    for tag in [*_MINT_TAG.finditer(text), None]:
        content = text[at : tag.start() if tag else len(text)]
        if kind is TurnKind.THOUGHT and (speaker := _SPEAKER.match(content)):
            content = content[speaker.end() :]
        if kind is TurnKind.TOOL_RESULT and "\nAssistant:" in content:
            content, _, spoken = content.partition("\nAssistant:")
            yield from _turn(kind, content, tool)
            kind, tool, content = TurnKind.THOUGHT, "", spoken
        yield from _turn(kind, content, tool)
        if tag is None:
            return
        at = tag.end()
        if tag[0] == "Observation:":
            kind, tool = TurnKind.TOOL_RESULT, "python"
        else:
            kind, tool = (TurnKind.THOUGHT, "") if tag[1] else _MINT_KINDS[tag[2]]


def _chat_turns(messages: Messages) -> Iterator[TraceTurn]:
    """Turns of the assistant's messages and of what it was answered; a prompt before is left out."""
    tools: dict[str, str] = {}
    turns: list[TraceTurn] = []
    for index, message in enumerate(messages):
        if not isinstance(message, Mapping) or "role" not in message:
            raise ValueError(
                f"Message {index} is {str(message)[:60]!r}; a message is an object with "
                '"role" and "content".'
            )
        role = message["role"]
        if role in ("system", "developer") or (role == "user" and not turns):
            continue
        last_tool = next((t.tool for t in reversed(turns) if t.kind is TurnKind.TOOL_CALL), "")
        for text in _contents(message, index):
            if role == "assistant":
                name = _format_of(text)
                turns += _TEXT_FORMATS[name](text) if name else _turn(TurnKind.THOUGHT, text)
            else:
                tool = tools.get(str(message.get("tool_call_id")), str(message.get("name") or ""))
                text = re.sub(r"\AObservation(?: ?\d+)?:", "", text.strip())
                turns += _turn(TurnKind.TOOL_RESULT, text, tool or last_tool)
        if role == "assistant":
            turns += _called(message, tools)
    is_answered = turns and turns[-1].kind is TurnKind.THOUGHT and messages[-1]["role"] != "user"
    if is_answered and tools:
        # After its calls, the last thing an assistant says is its answer.
        last = turns.pop()
        turns.append(TraceTurn(kind=TurnKind.ANSWER, text=last.text))
    yield from turns


def _contents(message: Mapping[str, Any], index: int) -> Iterator[str]:
    content = message.get("content")
    if content is None:
        return
    if isinstance(content, str):
        yield content
        return
    for part in content:
        if not isinstance(part, Mapping) or not isinstance(part.get("text"), str):
            raise ValueError(
                f"Message {index} has a content part {str(part)[:60]!r}; only text is supported, "
                'as {"type": "text", "text": "..."}.'
            )
        yield part["text"]


def _called(message: Mapping[str, Any], tools: dict[str, str]) -> Iterator[TraceTurn]:
    """The tool calls of a message; their names are kept for the results that come later."""
    for call in message.get("tool_calls") or ():
        function = call.get("function", call)
        name = str(function.get("name", ""))
        tools[str(call.get("id", len(tools)))] = name
        yield from _turn(TurnKind.TOOL_CALL, _argument(function.get("arguments", "")), name)


def _argument(arguments: Any) -> str:
    """What a call is given: its only string ("query", "code"), else all of it as JSON."""
    values = arguments
    if isinstance(arguments, str):
        try:
            values = json.loads(arguments)
        except ValueError:
            return arguments
    if isinstance(values, Mapping) and len(values) == 1:
        (value,) = values.values()
        if isinstance(value, str):
            return value
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


_TEXT_FORMATS: dict[str, Callable[[str], Iterator[TraceTurn]]] = {
    "react": _react_turns,
    "search_r1": _search_r1_turns,
    "mint": _mint_turns,
}
FORMATS = (*_TEXT_FORMATS, "chat")
"""All formats that `parse_trace` knows."""
