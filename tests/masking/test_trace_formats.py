import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from maskgym.masking import ExpertTrace, TurnKind
from maskgym.masking.trace_formats import parse_trace

THOUGHT, CALL, RESULT, ANSWER = TurnKind


def turns_of(trace: ExpertTrace) -> list[tuple[TurnKind, str, str]]:
    return [(turn.kind, turn.tool, turn.text) for turn in trace.turns]


def test_react() -> None:
    text = (
        "Question: Where?\nThought 1: I look.\nAction 1: Search[Ann [mayor]]\n"
        "Observation 1: She is\nin Paris.\nThought 2: Paris.\nAction 2: Finish[Paris]\n"
    )
    assert turns_of(parse_trace(text)) == [
        (THOUGHT, "", "I look."),
        (CALL, "search", "Ann [mayor]"),
        (RESULT, "search", "She is\nin Paris."),
        (THOUGHT, "", "Paris."),
        (ANSWER, "", "Paris"),
    ]
    text = "Thought: so\nAction: calculator\nAction Input: 1+1\nObservation: 2\nFinal Answer: 2"
    assert turns_of(parse_trace(text)) == [
        (THOUGHT, "", "so"),
        (CALL, "calculator", "1+1"),
        (RESULT, "calculator", "2"),
        (ANSWER, "", "2"),
    ]


def test_search_r1_with_tags_that_are_not_closed_or_closed_wrongly() -> None:
    text = (
        "A: <think>I look.\n<search> Ann </</search>\n<information>Doc 1 <answer> x\n"
        "</information>\nso <answer> Paris </answer>"
    )
    assert turns_of(parse_trace(text)) == [
        (THOUGHT, "", "A:"),
        (THOUGHT, "", "I look."),
        (CALL, "search", "Ann"),
        (RESULT, "search", "Doc 1 <answer> x"),
        (THOUGHT, "", "so"),
        (ANSWER, "", "Paris"),
    ]


def test_mint_text_and_messages() -> None:
    text = (
        "Assistant:\n<thought> t </thought>\n<execute>\nprint(1)\n</execute>\n\nObservation:\n1\n\n"
        "Assistant:\nThe answer is <solution> 1 </solution>."
    )
    expected = [
        (THOUGHT, "", "t"),
        (CALL, "python", "print(1)"),
        (RESULT, "python", "1"),
        (THOUGHT, "", "The answer is"),
        (ANSWER, "", "1"),
        (THOUGHT, "", "."),
    ]
    assert turns_of(parse_trace(text)) == expected
    call, _, answer = text.partition("Observation:\n1\n\n")
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "Task: <thought> in a demonstration"},
        {"role": "assistant", "content": call},
        {"role": "user", "content": "Observation:\n1\n"},
        {"role": "assistant", "content": answer},
    ]
    assert turns_of(parse_trace(messages)) == expected


def test_chat_messages_with_tool_calls() -> None:
    def call(name: str, arguments: str) -> dict[str, Any]:
        return {"id": name, "type": "function", "function": {"name": name, "arguments": arguments}}

    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Use tools."},
        {"role": "user", "content": "Where?"},
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [call("search", '{"query": "Ann\\nLee"}'), call("add", '{"a":1,"b":2}')],
        },
        {"role": "tool", "tool_call_id": "add", "content": "3"},
        {"role": "tool", "tool_call_id": "search", "content": [{"type": "text", "text": "doc"}]},
        {"role": "assistant", "content": None, "tool_calls": [call("search", "not json")]},
        {"role": "tool", "tool_call_id": "search", "content": ""},
        {"role": "assistant", "content": "Paris."},
    ]
    assert turns_of(parse_trace(messages)) == [
        (THOUGHT, "", "I look."),
        (CALL, "search", "Ann\nLee"),
        (CALL, "add", '{"a":1,"b":2}'),
        (RESULT, "add", "3"),
        (RESULT, "search", "doc"),
        (CALL, "search", "not json"),
        (ANSWER, "", "Paris."),
    ]
    assert turns_of(parse_trace([*messages[:2], {"role": "assistant", "content": "1+1=2"}])) == [
        (THOUGHT, "", "1+1=2")
    ]


def test_a_text_without_markers_is_one_thought_only_if_its_format_is_named() -> None:
    with pytest.raises(ValueError, match=r"no known trace format.*react, search_r1, mint, chat"):
        parse_trace("It is so.")
    assert turns_of(parse_trace("It is so.", "search_r1")) == [(THOUGHT, "", "It is so.")]
    assert parse_trace("", "react").turns == ()


@pytest.mark.parametrize(
    ("source", "format", "error", "message"),
    [
        ("x", "recat", LookupError, "Did you mean 'react'"),
        ("x", "chat", ValueError, "parse its JSON"),
        ([{"role": "user", "content": "x"}], "mint", ValueError, "format 'chat'"),
        (["x"], "auto", ValueError, '"role" and "content"'),
        ([{"role": "assistant", "content": [{"type": "image"}]}], "auto", ValueError, "only text"),
        ("Question: a\nThought: b\nQuestion: c", "auto", ValueError, "holds 2 questions"),
    ],
)
def test_what_cannot_be_parsed_says_what_to_do(
    source: Any, format: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        parse_trace(source, format)


def rows(path: Path) -> list[Any]:
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
    try:
        data = json.loads(text)
    except ValueError:
        return [json.loads(line) for line in text.split("\n") if line]
    return list(data.values()) if isinstance(data, dict) else data


def trajectories(data: Path) -> Iterator[tuple[Any, str]]:
    """Every trajectory of the shared data with the format to read it in."""
    for path in sorted((data / "fireact_trajectories").glob("*.gz")):
        yield from ((row.get("messages") or row["traj"], "auto") for row in rows(path))
    for path in sorted((data / "search_r1_rollouts").glob("*.gz")):
        yield from ((row["output"]["final_response"], "search_r1") for row in rows(path))
    for path in sorted((data / "mint_traces").glob("*.gz")):
        yield from ((row["state"]["history"], "auto") for row in rows(path))
    for path in sorted((data / "react_prompts").glob("*.json")):
        for prompt in rows(path):
            for part in re.split(r"(?m)^(?=(?:Question|Claim):)", prompt):
                if part.startswith(("Question:", "Claim:")):
                    yield part, "react"


def test_all_real_trajectories_parse_and_every_turn_stands_in_its_source() -> None:
    data = Path(__file__).parents[3] / "shared" / "data"
    if not (data / "fireact_trajectories").exists():
        pytest.skip(f"No trajectories in {data}.")
    num_answered = num_traces = 0
    for source, format in trajectories(data):
        trace = parse_trace(source, format)
        whole = source if isinstance(source, str) else "\n".join(m["content"] for m in source)
        assert trace.turns and all(turn.text in whole for turn in trace.turns)
        assert all(turn.text == turn.text.strip() != "" for turn in trace.turns)
        num_traces += 1
        num_answered += any(turn.kind is ANSWER for turn in trace.turns)
    assert num_traces > 12_000
    assert num_answered > 0.9 * num_traces
