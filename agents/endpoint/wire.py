"""In: messages and sampling settings, or a server's reply. Out: the request's JSON, or the completion.

Pure functions; `endpoint_client` sends and receives. Sources: the OpenAI API reference for chat completions
(https://platform.openai.com/docs/api-reference/chat), and what vLLM and SGLang add to it: vLLM's
`include_stop_str_in_output` and `stop_reason`, SGLang's `matched_stop`, `reasoning_content` beside the
content.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from ...envs.spaces import replace_surrogates
from ..engines.engine import SamplingParams

Api: TypeAlias = Literal["chat", "completions"]
Messages: TypeAlias = Sequence[Mapping[str, str]]

STOP_FIELD = "include_stop_str_in_output"
"""The field that makes vLLM keep the stop string; OpenAI's own servers refuse it."""

LIMIT_FIELDS = ("max_tokens", "max_completion_tokens")
OWN_FIELDS = (
    "model", "messages", "prompt", "stream", "n", "stop", "seed", "temperature", "top_p",
    *LIMIT_FIELDS, STOP_FIELD,
)  # fmt: skip
"""Fields that are set here, and so cannot be set from outside."""

_REASON_FIELDS = ("stop_reason", "matched_stop")
_REASONING_FIELDS = ("reasoning_content", "reasoning")
_CONTEXT = re.compile(
    r"context_length_exceeded|maximum context length|max(?:imum)? model length|context window"
    r"|context size|exceed_context_size|(?:prompt|input) is too long|maximum (?:input|prompt) length",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class EndpointCompletion:
    """What a model behind an endpoint said."""

    text: str
    """Its own text, with the stop string that ended it."""
    reasoning: str = ""
    """What the server took out of the text as the model's thoughts."""
    finish_reason: str = "stop"
    num_tokens: int | None = None
    """Sampled tokens as the server counts them, thoughts included; None where it does not say."""

    @property
    def text_with_reasoning(self) -> str:
        """The text for a record: the thoughts, if they came apart, as a think block before it."""
        if not self.reasoning:
            return self.text
        thoughts = self.reasoning.replace("</think", "&lt;/think").strip()
        return f"<think>\n{thoughts}\n</think>\n{self.text.lstrip()}"


def request_body(
    api: Api,
    model: str,
    messages: Messages,
    params: SamplingParams,
    *,
    max_tokens: int | None,
    refused: Collection[str] = (),
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The JSON object that asks for one completion.

    Args:
        api: "chat" sends the messages; "completions" one text, see `plain_prompt`.
        model: As the server calls it.
        messages: The conversation so far; the last one is the user's.
        params: How to sample; `top_k`, `stop_token_ids` and `ignore_eos` are not in OpenAI's API and not
            sent.
        max_tokens: Most tokens of the completion, in the place of that of `params`; None for no limit.
        refused: Fields that the server is known to refuse, which are left out; without "max_tokens",
            "max_completion_tokens" takes its place.
        extra: Fields to add.
    """
    body: dict[str, Any] = {
        "model": model,
        "temperature": params.temperature,
        "stream": False,
        STOP_FIELD: True,
        **(extra or {}),
    }
    if api == "chat":
        body["messages"] = [dict(message) for message in messages]
    else:
        body["prompt"] = plain_prompt(messages)
    if params.temperature > 0:
        body["top_p"] = params.top_p
    if params.stop:
        body["stop"] = list(params.stop)
    else:
        del body[STOP_FIELD]
    if params.seed is not None:
        body["seed"] = params.seed
    limit_field = next((name for name in LIMIT_FIELDS if name not in refused), None)
    if limit_field is not None and max_tokens is not None:
        body[limit_field] = max_tokens
    return {name: value for name, value in body.items() if name not in refused}


def plain_prompt(messages: Messages) -> str:
    """A conversation as one text for models without a chat format: `User: ...` and `Assistant: ...` lines."""
    spoken = {"assistant": "Assistant:", "user": "User: ", "system": "System: "}
    lines = "".join(f"{spoken[message['role']]}{message['content']}\n" for message in messages)
    return lines + "Assistant:"


def parse_completion(body: bytes, api: Api, stop: Sequence[str]) -> EndpointCompletion:
    """The completion in a reply of status 200.

    Raises:
        ValueError: If it is none; the message says what it is instead.
    """
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the reply is no JSON: {shown(body)}") from error
    choices = reply.get("choices") if isinstance(reply, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict):
        raise ValueError(f"the reply holds no choices: {shown(body)}")
    reasoning: Any = ""
    if api == "chat":
        message = choice.get("message")
        if not isinstance(message, dict):
            raise ValueError(f"the reply's choice holds no message: {shown(body)}")
        text = _joined(message.get("content"))
        reasoning = next((message[name] for name in _REASONING_FIELDS if message.get(name)), "")
    else:
        text = choice.get("text")
    if not isinstance(text, str):
        raise ValueError(f"the reply's text is no string: {shown(body)}")
    finish_reason = str(choice.get("finish_reason") or "stop")
    is_told = any(name in choice for name in _REASON_FIELDS)
    reason = next((choice[name] for name in _REASON_FIELDS if choice.get(name) is not None), None)
    usage = reply.get("usage")
    num_tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return EndpointCompletion(
        text=replace_surrogates(
            restore_stop(text, stop, finish_reason=finish_reason, reason=reason, is_told=is_told)
        ),
        reasoning=replace_surrogates(reasoning) if isinstance(reasoning, str) else "",
        finish_reason=finish_reason,
        num_tokens=num_tokens if type(num_tokens) is int else None,
    )


def restore_stop(
    text: str, stop: Sequence[str], *, finish_reason: str, reason: object, is_told: bool
) -> str:
    """A completion that ends with the stop string that ended it, as an engine of ours gives it.

    A server that ignored `stop` went on after it: the rest is cut. One that left the stop string out gets
    it back: the one that it names, or, where servers name none, the closing tag of the last tag that is
    open. There a turn that the model itself ended inside a tag cannot be told from one that the stop string
    ended; it counts as the latter.

    Args:
        text: As the server gave it.
        stop: The stop strings that were sent.
        finish_reason: "stop" covers stop strings and the model's own end.
        reason: The stop string or token that the server names.
        is_told: Whether the server names reasons at all: then None is the model's own end.
    """
    ends = [(at + len(mark), mark) for mark in stop if (at := text.find(mark)) >= 0]
    if ends:
        return text[: min(ends)[0]]
    if finish_reason != "stop" or not stop:
        return text
    if isinstance(reason, str) and reason in stop:
        return text + reason
    if is_told:
        return text
    opened = [
        (text.rfind(f"<{mark[2:]}"), mark)
        for mark in stop
        if mark.startswith("</") and f"<{mark[2:]}" in text[text.rfind("</think>") + 1 :]
    ]
    return text + max(opened)[1] if opened else text


def is_context_overflow(body: bytes) -> bool:
    """Whether a refusal says that prompt and completion are longer than the model's context."""
    return _CONTEXT.search(body.decode("utf-8", "replace")) is not None


def refused_field(body: bytes, sent: Mapping[str, Any]) -> str | None:
    """The field that can be left out of a request and that the server refuses; None where it names none.

    Leaving out a seed or a stop string changes no score that we could not repair or report; leaving out a
    temperature other than 1 would.
    """
    text = body.decode("utf-8", "replace")
    droppable = [STOP_FIELD, *LIMIT_FIELDS, "stop", "seed", "top_p"]
    if sent.get("temperature") == 1:
        droppable.append("temperature")
    present = [name for name in droppable if name in sent]
    named = error_of(body).get("param")
    if named in present:
        return str(named)
    quoted = "|".join(map(re.escape, present))
    found = re.search(rf"""['"`]({quoted})\\?['"`]|\b({STOP_FIELD})\b""", text) if present else None
    return (found[1] or found[2]) if found else None


def error_of(body: bytes) -> dict[str, Any]:
    """The `error` object of a refusal; empty where there is none."""
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    error = reply.get("error") if isinstance(reply, dict) else None
    return error if isinstance(error, dict) else {}


def shown(body: bytes) -> str:
    """The beginning of a reply, on one line."""
    return " ".join(body[:400].decode("utf-8", "replace").split())


def _joined(content: Any) -> Any:
    """A message's content as text: it may be absent, or come in parts."""
    if content is None:
        return ""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        return "".join(part for part in parts if isinstance(part, str))
    return content
