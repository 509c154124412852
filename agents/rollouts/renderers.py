"""Messages in, the text of a chat format out: the pieces that an episode's token sequence is made of.

An episode is ``opening, header, action, observation, header, action, ...``. A renderer writes the pieces that
are not sampled; `Chat` encodes each of them once. A format that drops the think blocks of earlier turns
is rendered append-only as well, unless `ChatConfig.keep_thinking` is off.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

RENDERER_NAMES = ("auto", "template", "chatml", "qwen3", "llama3", "plain")
THINK_END = "</think>"
NO_THOUGHT = (
    "<think>\n\n</think>\n\n"  # what Qwen3 puts before an action that shall not be thought over
)

_QUESTION, _ACTION, _OBSERVATION = (f"\u2402{word}\u2403" for word in ("ask", "act", "see"))


class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that we use."""

    chat_template: str | None
    eos_token_id: int

    def encode(self, text: str, *, add_special_tokens: bool = ...) -> list[int]:
        """Token ids of a text."""

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = ...) -> str:
        """Text of token ids."""

    def apply_chat_template(
        self, messages: list[dict[str, str]], *, tokenize: bool, add_generation_prompt: bool
    ) -> Any:
        """The rendered conversation."""


class Renderer(ABC):
    """The pieces of a chat format, as text."""

    name: str
    turn_header: str
    """Opens a turn of the model; the next token is sampled."""

    history_header: str
    """Opens a turn of the model that is over, in a format that rewrites history."""

    drops_thoughts: bool = False
    """Whether the format's own template leaves the think blocks of earlier turns out."""

    is_faithful: bool = True
    """Whether dropping think blocks, if anything, is all that the format's template does to history."""

    end_tokens: tuple[str, ...]
    """Special tokens that end a turn: the format's own first, then others that its models sample."""

    @abstractmethod
    def opening(self, system: str, text: str) -> str:
        """All up to the first header; without a system message where it is empty."""

    @abstractmethod
    def observation(self, text: str) -> str:
        """All between the end of an action and the next header, the end-of-turn token first."""


class ChatMLRenderer(Renderer):
    """ChatML: the format of Qwen2.5 with a system message, and of our tiny models."""

    name = "chatml"
    turn_header = history_header = "<|im_start|>assistant\n"
    end_tokens = ("<|im_end|>", "<|endoftext|>")

    def opening(self, system: str, text: str) -> str:
        """System and user message."""
        return (self._message("system", system) if system else "") + self._message("user", text)

    def observation(self, text: str) -> str:
        """End of turn, the newline that the format wants behind it (engines stop before), user message."""
        return "<|im_end|>\n" + self._message("user", text)

    def _message(self, role: str, text: str) -> str:
        return f"<|im_start|>{role}\n{text}<|im_end|>\n"


class Qwen3Renderer(ChatMLRenderer):
    """Qwen3: ChatML whose template drops the think blocks of turns before the last user message.

    With thinking off each action begins behind an empty think block, which the template writes only for
    the turn to come.
    """

    name = "qwen3"
    drops_thoughts = True

    def __init__(self, *, thinking: bool | None = None) -> None:
        if thinking is False:
            self.turn_header = self.history_header + NO_THOUGHT


class Llama3Renderer(Renderer):
    """Llama 3, as the template of 3.0 writes it; those of 3.1 and later write a date as well."""

    name = "llama3"
    turn_header = history_header = "<|start_header_id|>assistant<|end_header_id|>\n\n"
    end_tokens = ("<|eot_id|>", "<|end_of_text|>", "<|eom_id|>")

    def opening(self, system: str, text: str) -> str:
        """Beginning of text, system and user message."""
        first = self._message("system", system) if system else ""
        return "<|begin_of_text|>" + first + self._message("user", text)

    def observation(self, text: str) -> str:
        """End of turn and user message; no newline between them."""
        return "<|eot_id|>" + self._message("user", text)

    def _message(self, role: str, text: str) -> str:
        return f"<|start_header_id|>{role}<|end_header_id|>\n\n{text.strip()}<|eot_id|>"


class PlainRenderer(Renderer):
    """Lines of speakers, for models without a chat format."""

    name = "plain"
    turn_header = history_header = "Assistant:"

    def __init__(self, tokenizer: Tokenizer) -> None:
        end = tokenizer.decode([tokenizer.eos_token_id], skip_special_tokens=False)
        self.end_tokens = (end,)
        self._start = _start_of_text(tokenizer)

    def opening(self, system: str, text: str) -> str:
        """The token that every text begins with, if there is one; a line each of system and user."""
        return self._start + (f"System: {system}\n" if system else "") + f"User: {text}\n"

    def observation(self, text: str) -> str:
        """End of text, and a line of the user."""
        return f"{self.end_tokens[0]}\nUser: {text}\n"


class TemplateRenderer(Renderer):
    """Any tokenizer's own template, taken apart: what it adds behind a marked action is the observation."""

    name = "template"

    def __init__(self, tokenizer: Tokenizer, *, system: str = "", thinking: bool | None = None):
        """Takes the template apart.

        Raises:
            ValueError: If there is none, it refuses a conversation of user and assistant, or it writes
                earlier messages anew when one is added.
        """
        if tokenizer.chat_template is None:
            raise ValueError(
                "The tokenizer has no chat template; choose the renderer 'plain', or one by name."
            )
        if thinking is not None and "enable_thinking" not in tokenizer.chat_template:
            raise ValueError(
                f"thinking is {thinking}, and the chat template has no such switch (enable_thinking); "
                "leave it out."
            )
        self._tokenizer = tokenizer
        self._options = {} if thinking is None else {"enable_thinking": thinking}
        opened = self._render(_messages(system, _QUESTION))
        once = self._render(_messages(system, _QUESTION, _ACTION, _OBSERVATION))
        twice = self._render(
            _messages(system, _QUESTION, _ACTION, _OBSERVATION, _ACTION, _OBSERVATION)
        )
        begun = once.partition(_ACTION)[0]
        shared = _shared_start(opened, begun)  # the header too, unless history has another
        self.turn_header = opened[len(shared) :]
        self.history_header = begun[len(shared) :]
        if _ACTION not in once or _OBSERVATION not in once:
            raise ValueError("The chat format drops messages; use another template.")
        if _QUESTION not in shared or not twice.startswith(once.removesuffix(self.turn_header)):
            raise ValueError(
                "The chat format rewrites history when a turn is added; use an append-only template, "
                "or another renderer."
            )
        thought = f"<think>\n{_QUESTION}\n{THINK_END}\n\n{_ACTION}"
        said, actions = ("", _OBSERVATION), (thought,)
        thoughtful = self._render(_messages(system, said[0], thought, said[1]))
        self.drops_thoughts = _QUESTION not in thoughtful
        self.is_faithful = thoughtful == render_episode(self, system, said, actions)
        first = tokenizer.encode(self.observation(""), add_special_tokens=False)[:1]
        end = tokenizer.decode(first, skip_special_tokens=False)
        if not re.fullmatch(r"<[^<>]+>", end.strip()):
            end = tokenizer.decode([tokenizer.eos_token_id], skip_special_tokens=False)
        self.end_tokens = (end,)

    def opening(self, system: str, text: str) -> str:
        """System and user message."""
        return self._render(_messages(system, text)).removesuffix(self.turn_header)

    def observation(self, text: str) -> str:
        """What the template writes behind the action when a user message follows."""
        whole = self._render(_messages("", _QUESTION, _ACTION, text))
        return whole.partition(_ACTION)[2].removesuffix(self.turn_header)

    def _render(self, messages: list[dict[str, str]]) -> str:
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    messages, tokenize=False, add_generation_prompt=True, **self._options
                )
            )
        except Exception as error:  # jinja's own, and whatever a template raises on purpose
            raise ValueError(
                f"The chat template refuses a conversation of {' and '.join(m['role'] for m in messages)}"
                f" ({type(error).__name__}: {error}); choose another renderer."
            ) from error


def make_renderer(
    name: str, tokenizer: Tokenizer, *, system: str = "", thinking: bool | None = None
) -> Renderer:
    """The renderer of this name for a tokenizer.

    "auto" takes the one of ours that writes the very text of the tokenizer's template, else the template
    itself; plain text where there is no template.

    Raises:
        ValueError: If the format does not fit the tokenizer, or has no switch for thinking.
    """
    if name == "template":
        return TemplateRenderer(tokenizer, system=system, thinking=thinking)
    if name == "auto" and tokenizer.chat_template is not None:
        template = TemplateRenderer(tokenizer, system=system, thinking=thinking)
        ours: list[Renderer] = [Qwen3Renderer(thinking=thinking)]
        if thinking is None:
            ours += [ChatMLRenderer(), Llama3Renderer()]
        return next((each for each in ours if _writes_alike(each, template, system)), template)
    renderer: Renderer
    match name:
        case "chatml":
            renderer = ChatMLRenderer()
        case "qwen3":
            renderer = Qwen3Renderer(thinking=thinking)
        case "llama3":
            renderer = Llama3Renderer()
        case "plain" | "auto":
            renderer = PlainRenderer(tokenizer)
        case _:
            raise ValueError(f"No renderer {name!r}; choose one of {', '.join(RENDERER_NAMES)}.")
    if thinking is not None and renderer.name != "qwen3":
        raise ValueError(
            f"thinking is {thinking}, and the format {renderer.name} has no such switch; leave it out."
        )
    for token in (renderer.end_tokens[0], renderer.turn_header.partition(">")[0] + ">"):
        if renderer.name != "plain" and len(tokenizer.encode(token, add_special_tokens=False)) != 1:
            raise ValueError(
                f"The tokenizer does not know {token!r} as one token, and the format {renderer.name} "
                "needs it: choose the renderer 'template' or 'plain'."
            )
    return renderer


def render_episode(
    renderer: Renderer, system: str, said: Sequence[str], actions: Sequence[str]
) -> str:
    """A whole episode as the format's template writes it, up to the header of the next action.

    Args:
        renderer: The format.
        system: System message; empty for none.
        said: What the environment said: the opening, then one observation after each action.
        actions: What the model said, one fewer.
    """
    pieces = [renderer.opening(system, said[0])]
    for action, text in zip(actions, said[1:], strict=True):
        if renderer.drops_thoughts and THINK_END in action:
            action = action.rpartition(THINK_END)[2].lstrip("\n")
        pieces += [renderer.history_header, action, renderer.observation(text)]
    return "".join(pieces) + renderer.turn_header


def _writes_alike(renderer: Renderer, template: TemplateRenderer, system: str) -> bool:
    """Whether ours and the template's own render a conversation to the same text."""
    actions = (f"<think>\n{_QUESTION}\n{THINK_END}\n\n{_ACTION}", _ACTION)
    said = (_QUESTION, f" {_OBSERVATION}\n", _OBSERVATION)
    messages = _messages(system, said[0], actions[0], said[1], actions[1], said[2])
    is_alike = render_episode(renderer, system, said, actions) == template._render(messages)
    return is_alike and render_episode(renderer, system, said[:1], ()) == template._render(
        messages[:-4]
    )


def _shared_start(one: str, other: str) -> str:
    pairs = enumerate(zip(one, other, strict=False))
    return one[: next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))]


def _messages(system: str, *texts: str) -> list[dict[str, str]]:
    """Texts of user and assistant in turn, as messages."""
    roles = ("user", "assistant")
    turns = [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]
    return ([{"role": "system", "content": system}] if system else []) + turns


def _start_of_text(tokenizer: Tokenizer) -> str:
    """The special tokens that the tokenizer puts before a text of its own accord."""
    bare = tokenizer.encode("a", add_special_tokens=False)
    full = tokenizer.encode("a", add_special_tokens=True)
    if len(full) == len(bare) or full[-len(bare) :] != bare:
        return ""
    return tokenizer.decode(full[: -len(bare)], skip_special_tokens=False)
