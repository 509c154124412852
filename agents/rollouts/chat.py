"""Observations in, token ids out: how an episode becomes one growing token sequence.

Sampled ids are kept for ever. What the environment says between two actions is encoded once, behind
the end of the action, so decoded text is never tokenised again (the drift that TRL #5224 and verl #6719
report cannot happen). A format that rewrites history gives several sequences instead of drift.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from .renderers import RENDERER_NAMES, THINK_END, make_renderer
from .renderers import Tokenizer as Tokenizer


@dataclass(frozen=True, kw_only=True)
class ChatConfig:
    """What surrounds an observation in the prompt."""

    system: str = ""
    """System message; empty for none."""

    scaffold_template: str = "Here is an example solution, with parts hidden:\n{scaffold}\n\n{text}"
    """The first user message of a guided rollout. The scaffold stands before the question, so the
    distance from question to answer is the same guided and bare."""

    renderer: str = "auto"
    """Chat format: "chatml", "qwen3", "llama3", "plain", "template" (the tokenizer's own, taken apart), or
    "auto": the one of these that writes what the tokenizer's template writes."""

    thinking: bool | None = None
    """Whether the model shall think before it acts, in formats with that switch (Qwen3); None leaves it
    to the format."""

    keep_thinking: bool = True
    """Whether later turns see earlier think blocks, so that an episode only ever grows. False does as
    the templates of Qwen3 and others do and drops them: each turn is then a training sequence of its own."""

    def __post_init__(self) -> None:
        for field in ("{scaffold}", "{text}"):
            if self.scaffold_template.count(field) != 1:
                raise ValueError(
                    f"scaffold_template must hold {field} exactly once; it is "
                    f"{self.scaffold_template!r}."
                )
        if self.renderer not in RENDERER_NAMES:
            raise ValueError(
                f"No renderer {self.renderer!r}; choose one of {', '.join(RENDERER_NAMES)}."
            )


_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json")


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """The tokenizer of a model folder.

    Raises:
        FileNotFoundError: If the folder holds no tokenizer.
    """
    from transformers import AutoTokenizer

    if not Path(folder).is_dir():
        raise FileNotFoundError(f"No model folder {str(folder)!r}.")
    if not any(path.name in _TOKENIZER_FILES for path in Path(folder).iterdir()):
        # Transformers would make an empty one of the model's kind, without a word.
        raise FileNotFoundError(
            f"No tokenizer in {str(folder)!r}: none of {', '.join(_TOKENIZER_FILES)} is there. Put the "
            "files of the model's tokenizer beside its weights."
        )
    tokenizer: Tokenizer = AutoTokenizer.from_pretrained(str(folder))
    return tokenizer


class Chat:
    """Encodes the pieces of an episode for a tokenizer, in a chat format or as plain text."""

    def __init__(self, tokenizer: Tokenizer, config: ChatConfig | None = None) -> None:
        """Chooses the renderer and checks it on a dummy conversation.

        Raises:
            ValueError: If the format does not fit the tokenizer, or writes earlier messages anew.
        """
        self.tokenizer = tokenizer
        self.config = config = config or ChatConfig()
        self.renderer = make_renderer(
            config.renderer, tokenizer, system=config.system, thinking=config.thinking
        )
        if not (config.keep_thinking or self.renderer.is_faithful):
            raise ValueError(
                "The chat template writes earlier turns in a way of its own, beyond dropping think "
                "blocks; set keep_thinking, and each turn stays as it was sampled."
            )
        ends = [self._encode(token) for token in self.renderer.end_tokens]
        known = [ids[0] for ids in ends if len(ids) == 1]
        self.eos_token_id = known[0] if len(ends[0]) == 1 else int(tokenizer.eos_token_id)
        """The token that ends a turn in this format."""
        self.end_ids = tuple(
            dict.fromkeys([self.eos_token_id, *known, int(tokenizer.eos_token_id)])
        )
        """Every token that may end a turn: the format's own, and others that its models sample."""
        self._encode_opening = lru_cache(maxsize=256)(lambda text: tuple(self._encode(text)))
        self._check_pieces()

    def prompt_ids(self, text: str, scaffold: str = "") -> list[int]:
        """Ids up to and including the assistant's header of the first turn."""
        opening = self.renderer.opening(self.config.system, self._with_scaffold(text, scaffold))
        return list(self._encode_opening(opening + self.renderer.turn_header))

    def observation_ids(
        self, text: str, scaffold: str = "", *, after_ids: Sequence[int]
    ) -> list[int]:
        """Ids that stand between an action and the next one.

        They begin with what the format puts after an assistant message: the end-of-turn token, unless
        the engine already sampled it as the last of `after_ids`, and the newline behind it.
        """
        text = self._with_scaffold(text, scaffold)
        return self._behind(after_ids, self.renderer.observation(text) + self.renderer.turn_header)

    def context_ids(
        self, said: Sequence[tuple[str, str]], actions: Sequence[Sequence[int]]
    ) -> tuple[list[int], int]:
        """The whole context before the next action, earlier think blocks left out as the format does.

        Earlier actions keep the ids that were sampled; a think block is cut out between two tokens, and
        stays where it ends inside one.

        Args:
            said: Text and scaffold of the opening, and of the observation after each action.
            actions: The sampled ids of the actions, one fewer.

        Returns:
            The ids, and how many think blocks had to stay.
        """
        renderer = self.renderer
        opening = renderer.opening(self.config.system, self._with_scaffold(*said[0]))
        headers = [renderer.history_header] * len(actions) + [renderer.turn_header]
        ids = list(self._encode_opening(opening + headers[0]))
        num_kept = 0
        for action, words, header in zip(actions, said[1:], headers[1:], strict=True):
            start = self._thought_end(action) if renderer.drops_thoughts else 0
            num_kept += start is None
            ids += action[start or 0 :]
            ids += self._behind(action, renderer.observation(self._with_scaffold(*words)) + header)
        return ids, num_kept

    def action_ids(self, text: str) -> list[int]:
        """Ids of an expert's action, ended as the model should end its own: with end-of-turn."""
        return [*self._encode(text), self.eos_token_id]

    def action_text(self, action_ids: Sequence[int]) -> str:
        """Text of sampled ids as the environment sees it: without the token that ended the turn."""
        is_ended = bool(action_ids) and action_ids[-1] in self.end_ids
        ids = action_ids[:-1] if is_ended else action_ids
        return self.tokenizer.decode(list(ids), skip_special_tokens=False)

    def check_append_only(self, messages: Sequence[dict[str, str]]) -> None:
        """Asserts that the tokenizer's template renders each prefix of a conversation to one of the whole.

        Raises:
            ValueError: If the format rewrites history; the message names the turn.
        """
        if self.tokenizer.chat_template is None:
            return

        def render(part: Sequence[dict[str, str]]) -> str:
            return str(
                self.tokenizer.apply_chat_template(
                    list(part), tokenize=False, add_generation_prompt=False
                )
            )

        whole = render(messages)
        for end in range(1, len(messages)):
            if not whole.startswith(render(messages[:end])):
                raise ValueError(
                    f"The chat format rewrites earlier turns (seen at message {end}); train with an "
                    "append-only template, or turn thinking off."
                )

    def _check_pieces(self) -> None:
        """A dummy episode in pieces must read like the one that is encoded at once."""
        action = [*self._encode("act"), self.eos_token_id]
        opening = self.renderer.opening(self.config.system, "ask") + self.renderer.turn_header
        seen = self.renderer.observation("see") + self.renderer.turn_header
        pieces = self.prompt_ids("ask") + action + self.observation_ids("see", after_ids=action)
        found, wanted = self._decode(pieces), self._decode(self._encode(f"{opening}act{seen}"))
        if found.replace(" ", "") != wanted.replace(" ", ""):  # where pieces meet a space may show
            raise ValueError(
                f"The chat format {self.renderer.name} and the tokenizer do not fit: a dummy episode "
                f"reads {found!r}, and should read {wanted!r}. Choose another renderer."
            )

    def _behind(self, action: Sequence[int], text: str) -> list[int]:
        """Ids of what follows an action; its first is left out where the action sampled it."""
        ids = self._encode(text)
        if action and ids and action[-1] == self.eos_token_id == ids[0]:
            return ids[1:]
        return ids

    def _thought_end(self, action: Sequence[int]) -> int | None:
        """How many tokens of an action its think block takes; None where it ends inside a token."""
        text = self._decode(action)
        before, mark, after = text.rpartition(THINK_END)
        if not mark:
            return 0
        thought = before + mark + after[: len(after) - len(after.lstrip("\n"))]
        low, high = 0, len(action)  # the text of a prefix grows with its tokens
        while low < high:
            middle = (low + high) // 2
            if len(self._decode(action[:middle])) < len(thought):
                low = middle + 1
            else:
                high = middle
        return low if self._decode(action[:low]) == thought else None

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

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def _decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(list(ids), skip_special_tokens=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """What an action is sampled after, beyond what was there before."""

    ids: tuple[int, ...]
    """New to the context; the whole context where `is_new_context`."""

    bare_ids: tuple[int, ...] | None
    """`ids` without the scaffold; None where they show none."""

    is_new_context: bool


class Conversation:
    """One episode: what was said and sampled so far, and the context of the next action."""

    def __init__(self, chat: Chat) -> None:
        self._chat = chat
        self._said: list[tuple[str, str]] = []
        self._actions: list[Sequence[int]] = []
        self.context: list[int] = []
        """[T] ids that the next action is sampled after."""
        self.num_kept_thoughts = 0
        """Think blocks in the context that the format would have dropped."""

    def say(self, text: str, scaffold: str = "") -> Prompt:
        """Takes the opening, or what the environment said to the last action."""
        chat = self._chat
        self._said.append((text, scaffold))
        bare: list[int] | None = None
        if not self._actions:
            new = chat.prompt_ids(text, scaffold)
            bare = chat.prompt_ids(text) if scaffold else None
        else:
            last = self._actions[-1]
            new = chat.observation_ids(text, scaffold, after_ids=last)
            bare = chat.observation_ids(text, after_ids=last) if scaffold else None
        self.context += new
        is_new = False
        if self._actions and not chat.config.keep_thinking:
            whole, self.num_kept_thoughts = chat.context_ids(self._said, self._actions)
            if is_new := whole != self.context:
                self.context = new = whole
                is_guided = any(scaffold for _, scaffold in self._said)
                said = [(words, "") for words, _ in self._said]
                bare = chat.context_ids(said, self._actions)[0] if is_guided else None
        return Prompt(
            ids=tuple(new),
            bare_ids=None if bare is None else tuple(bare),
            is_new_context=is_new,
        )

    def act(self, action_ids: Sequence[int]) -> None:
        """Takes an action, as sampled."""
        self._actions.append(action_ids)
        self.context += action_ids
