"""Observations in, token ids out: how an episode becomes one growing token sequence.

Sampled ids are kept for ever. What the environment says between two actions is encoded once, as the
*suffix* that the chat format adds after an assistant message in a fixed dummy context, so decoded text
is never tokenised again (the drift that TRL #5224 and verl #6719 report cannot happen).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

_ANSWER_MARK = "\u2402answer\u2403"  # texts that no template touches
_OBSERVATION_MARK = "\u2402observation\u2403"


@dataclass(frozen=True, kw_only=True)
class ChatConfig:
    """What surrounds an observation in the prompt."""

    system: str = ""
    """System message; empty for none."""

    scaffold_template: str = "Here is an example solution, with parts hidden:\n{scaffold}\n\n{text}"
    """The first user message of a guided rollout. The scaffold stands before the question, so the
    distance from question to answer is the same guided and bare."""

    def __post_init__(self) -> None:
        for field in ("{scaffold}", "{text}"):
            if self.scaffold_template.count(field) != 1:
                raise ValueError(
                    f"scaffold_template must hold {field} exactly once; it is "
                    f"{self.scaffold_template!r}."
                )


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


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """The tokenizer of a model folder.

    Raises:
        FileNotFoundError: If the folder holds no tokenizer.
    """
    from transformers import AutoTokenizer

    if not Path(folder).is_dir():
        raise FileNotFoundError(f"No model folder {str(folder)!r}.")
    tokenizer: Tokenizer = AutoTokenizer.from_pretrained(str(folder))
    return tokenizer


class Chat:
    """Renders an episode append-only, for a tokenizer with a chat template or for plain text.

    A template may write the last assistant message in another way than earlier ones (Qwen3 gives it a
    think block and drops the old ones): here each turn stays as it was sampled. `check_append_only`
    tells whether a template would do otherwise.
    """

    def __init__(self, tokenizer: Tokenizer, config: ChatConfig | None = None) -> None:
        self.tokenizer = tokenizer
        self.config = config or ChatConfig()
        self.eos_token_id = int(tokenizer.eos_token_id)
        self._observation_prefix, self._observation_suffix = self._split_observation_turn()

    def prompt_ids(self, text: str, scaffold: str = "") -> list[int]:
        """Ids up to and including the assistant's header of the first turn."""
        return self._encode(self._render(self._opening(text, scaffold), add_generation_prompt=True))

    def observation_ids(
        self, text: str, scaffold: str = "", *, after_ids: Sequence[int]
    ) -> list[int]:
        """Ids that stand between an action and the next one.

        They begin with what the format puts after an assistant message: the end-of-turn token, unless
        the engine already sampled it as the last of `after_ids`, and the newline behind it.
        """
        text = self._with_scaffold(text, scaffold)
        ids = self._encode(self._observation_prefix + text + self._observation_suffix)
        if after_ids and ids and after_ids[-1] == self.eos_token_id == ids[0]:
            return ids[1:]
        return ids

    def action_ids(self, text: str) -> list[int]:
        """Ids of an expert's action, ended as the model should end its own: with end-of-turn."""
        return [*self._encode(text), self.eos_token_id]

    def action_text(self, action_ids: Sequence[int]) -> str:
        """Text of sampled ids as the environment sees it: without the end-of-turn token."""
        ids = list(action_ids)
        if ids and ids[-1] == self.eos_token_id:
            ids.pop()
        return self.tokenizer.decode(ids, skip_special_tokens=False)

    def check_append_only(self, messages: Sequence[dict[str, str]]) -> None:
        """Asserts that rendering each prefix of a conversation gives a prefix of the whole.

        Raises:
            ValueError: If the format rewrites history; the message names the turn.
        """
        whole = self._render(list(messages), add_generation_prompt=False)
        for end in range(1, len(messages)):
            part = self._render(list(messages[:end]), add_generation_prompt=False)
            if not whole.startswith(part):
                raise ValueError(
                    f"The chat format rewrites earlier turns (seen at message {end}); train with an "
                    "append-only template, or turn thinking off."
                )

    def _opening(self, text: str, scaffold: str) -> list[dict[str, str]]:
        messages = [{"role": "user", "content": self._with_scaffold(text, scaffold)}]
        if self.config.system:
            messages.insert(0, {"role": "system", "content": self.config.system})
        return messages

    def _with_scaffold(self, text: str, scaffold: str) -> str:
        if not scaffold:
            return text
        # Not str.format: a scaffold or a question may hold braces of its own.
        before, after = self.config.scaffold_template.split("{scaffold}")
        if "{text}" in before:
            before = before.replace("{text}", text)
        else:
            after = after.replace("{text}", text)
        return before + scaffold + after

    def _render(self, messages: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
        if self.tokenizer.chat_template is not None:
            return str(
                self.tokenizer.apply_chat_template(
                    messages, tokenize=False, add_generation_prompt=add_generation_prompt
                )
            )
        lines = "".join(f"{m['role'].capitalize()}: {m['content']}\n" for m in messages)
        return lines + ("Assistant:" if add_generation_prompt else "")

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def _split_observation_turn(self) -> tuple[str, str]:
        """What the format writes around an observation that follows an assistant message."""
        if self.tokenizer.chat_template is None:
            end_of_turn = self.tokenizer.decode([self.eos_token_id], skip_special_tokens=False)
            return f"{end_of_turn}\nUser: ", "\nAssistant:"
        question = {"role": "user", "content": "Q"}
        answer = {"role": "assistant", "content": _ANSWER_MARK}
        observation = {"role": "user", "content": _OBSERVATION_MARK}
        opened = self._render([question], add_generation_prompt=True)
        whole = self._render([question, answer, observation], add_generation_prompt=True)
        if not whole.startswith(opened):
            raise ValueError(
                "The chat format rewrites history when a turn is added; use an append-only template."
            )
        _, _, rest = whole.partition(_ANSWER_MARK)
        before, mark, after = rest.partition(_OBSERVATION_MARK)
        if not mark:
            raise ValueError("The chat format drops the user's messages; use another template.")
        return before, after
