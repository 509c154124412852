"""Requests and replies of the OpenAI API, as pure functions."""

import json
from typing import Any

import pytest

from maskgym.agents.endpoint.wire import (
    STOP_FIELD,
    EndpointCompletion,
    is_context_overflow,
    parse_completion,
    plain_prompt,
    refused_field,
    request_body,
    restore_stop,
)
from maskgym.agents.engines.engine import SamplingParams

STOP = ("</search>", "</answer>")
MESSAGES = [{"role": "user", "content": "Who?"}]
PARAMS = SamplingParams(max_tokens=9, temperature=0.5, stop=STOP, seed=3)


def reply(choice: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"choices": [choice], **more}).encode()


def refusal(message: str, **more: Any) -> bytes:
    return json.dumps({"error": {"message": message, **more}}).encode()


def test_a_request_holds_the_conversation_and_all_settings() -> None:
    body = request_body("chat", "m", MESSAGES, PARAMS, max_tokens=7, extra={"min_p": 0.1})
    assert body == {
        "model": "m",
        "messages": MESSAGES,
        "temperature": 0.5,
        "top_p": 1.0,
        "stop": list(STOP),
        "seed": 3,
        "max_tokens": 7,
        "stream": False,
        STOP_FIELD: True,
        "min_p": 0.1,
    }


def test_refused_fields_are_left_out_and_the_token_limit_gets_its_other_name() -> None:
    refused = {"max_tokens", STOP_FIELD, "seed"}
    body = request_body("chat", "m", MESSAGES, PARAMS, max_tokens=7, refused=refused)
    assert body["max_completion_tokens"] == 7
    assert not refused & body.keys()


def test_a_base_model_gets_one_plain_text() -> None:
    messages = [
        {"role": "user", "content": "Who?"},
        {"role": "assistant", "content": " <search> who </search>"},
        {"role": "user", "content": "Ada"},
    ]
    assert plain_prompt(messages) == (
        "User: Who?\nAssistant: <search> who </search>\nUser: Ada\nAssistant:"
    )
    body = request_body("completions", "m", messages, PARAMS, max_tokens=7)
    assert body["prompt"] == plain_prompt(messages)
    assert "messages" not in body


@pytest.mark.parametrize(
    ("text", "choice", "wanted"),
    [
        ("<search> a </search>", {}, "<search> a </search>"),
        # The server says which stop string it was, or that there was none.
        ("<search> a ", {"stop_reason": "</search>"}, "<search> a </search>"),
        ("<search> a ", {"matched_stop": "</search>"}, "<search> a </search>"),
        ("<search> a ", {"stop_reason": None}, "<search> a "),
        ("<search> a ", {"matched_stop": 151645}, "<search> a "),
        # It does not: an open tag is closed, the last one that is open.
        ("<search> a ", {}, "<search> a </search>"),
        ("<search> x <answer> a", {}, "<search> x <answer> a</answer>"),
        (
            "<think> to <search> </think> <answer> a",
            {},
            "<think> to <search> </think> <answer> a</answer>",
        ),
        ("<think> I could <search> </think> none", {}, "<think> I could <search> </think> none"),
        ("no tag at all", {}, "no tag at all"),
        # It ran out of tokens: nothing is put back.
        ("<search> a", {"finish_reason": "length"}, "<search> a"),
        # It paid no heed to the stop strings: what comes after the first is cut.
        ("<search> a </search> b </answer>", {}, "<search> a </search>"),
        ("a </answer> </search>", {"finish_reason": "length"}, "a </answer>"),
    ],
)
def test_a_completion_ends_with_the_stop_string_that_ended_it(
    text: str, choice: dict[str, Any], wanted: str
) -> None:
    body = reply({"message": {"content": text}, "finish_reason": "stop", **choice})
    assert parse_completion(body, "chat", STOP).text == wanted


def test_without_stop_strings_a_text_stays_as_it_is() -> None:
    assert restore_stop("<b> x", (), finish_reason="stop", reason=None, is_told=False) == "<b> x"


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_thoughts_that_come_apart_are_for_the_record_alone(name: str) -> None:
    message = {"content": "\n\n<answer> 4 </answer>", name: "2 </think> + 2 <answer> 5 </answer>"}
    completion = parse_completion(
        reply({"message": message}, usage={"completion_tokens": 12}), "chat", STOP
    )
    assert completion.text == "\n\n<answer> 4 </answer>"
    assert completion.num_tokens == 12
    assert completion.text_with_reasoning == (
        "<think>\n2 &lt;/think> + 2 <answer> 5 </answer>\n</think>\n<answer> 4 </answer>"
    )


@pytest.mark.parametrize(
    ("choice", "text"),
    [
        ({"message": {"content": None, "refusal": "no"}}, ""),
        ({"message": {"content": [{"type": "text", "text": "a"}, {"type": "x"}]}}, "a"),
        ({"message": {"content": "a\ud800b"}}, "a\ufffdb"),
    ],
)
def test_odd_contents_are_read(choice: dict[str, Any], text: str) -> None:
    completion = parse_completion(reply(choice, usage={"completion_tokens": True}), "chat", STOP)
    assert completion == EndpointCompletion(text=text, num_tokens=None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>busy</html>",
        b"[1]",
        b"[" * 100_000,
        b'{"choices": []}',
        b'{"choices": [3]}',
        b'{"choices": [{"text": "for the other API"}]}',
        b'{"choices": [{"message": {"content": 7}}]}',
        b'{"error": {"message": "busy"}}',
        b"\xff\xfe",
    ],
)
def test_what_is_no_completion_is_said_so(body: bytes) -> None:
    with pytest.raises(ValueError, match="the reply"):
        parse_completion(body, "chat", STOP)


@pytest.mark.parametrize(
    "body",
    [
        refusal(
            "This model's maximum context length is 512 tokens. However, your prompt contains at least "
            "500 input tokens, which exceeds this limit."
        ),
        refusal("too long", code="context_length_exceeded", param="messages"),
        refusal("the request exceeds the available context size", type="exceed_context_size_error"),
        b"prompt is too long: 210000 tokens > 200000 maximum",
    ],
)
def test_a_full_context_is_told_from_other_refusals(body: bytes) -> None:
    assert is_context_overflow(body)
    assert not is_context_overflow(refusal("Unrecognized request argument supplied: stop"))


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (refusal(f"Unrecognized request argument supplied: {STOP_FIELD}"), STOP_FIELD),
        (
            json.dumps(
                {"detail": [{"type": "extra_forbidden", "loc": ["body", STOP_FIELD]}]}
            ).encode(),
            STOP_FIELD,
        ),
        (
            refusal("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."),
            "max_tokens",
        ),
        (refusal("not supported with this model", param="stop"), "stop"),
        (refusal("Unsupported parameter: 'seed'."), "seed"),
        # A temperature of 0.5 is part of what is evaluated; without it the numbers would be others.
        (refusal("only the default (1) is supported", param="temperature"), None),
        (refusal("please stop, the seed is bad"), None),
        (b"no", None),
    ],
)
def test_the_refused_field_is_found_in_what_servers_say(body: bytes, name: str | None) -> None:
    sent = request_body("chat", "m", MESSAGES, PARAMS, max_tokens=7)
    assert refused_field(body, sent) == name


def test_a_default_temperature_need_not_be_sent() -> None:
    params = SamplingParams(max_tokens=9, temperature=1.0)
    sent = request_body("chat", "m", MESSAGES, params, max_tokens=9)
    assert refused_field(refusal("no", param="temperature"), sent) == "temperature"
