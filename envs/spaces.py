"""In: a length. Out: `UnicodeText`, the Gymnasium space of any string up to that length."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.error import CustomSpaceError
from gymnasium.spaces import Text
from gymnasium.vector.utils import create_shared_memory

# What samples are made of: tags that a parser must survive, and characters that others refuse.
_FRAGMENTS = (
    *("<search>", "</search>", "<python>", "</python>", "<answer>", "</answer>", "<think>"),
    *("</think>", "<information>", "</information>", "<result>", "<serch>", "<", ">", "</", "{}"),
    *("\\boxed{", "}", "####", "```python\n", "```", "<|im_end|>", "42", "-1", "[NUMBER]", "the"),
    *(
        " ",
        "\n",
        "\t",
        "\r\n",
        "\0",
        "é",
        "日本",
        "😀",
        "\u202e",
        "\u0301",
        "ß",
        "½",
        "a",
        "Z",
        ".",
    ),
)
_MAX_SAMPLE_FRAGMENTS = 64


def replace_surrogates(text: str) -> str:
    """`text` with each lone surrogate replaced by U+FFFD, so that it can be written as UTF-8."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class UnicodeText(Text):
    """All strings of `min_length` to `max_length` characters, whatever the characters.

    `gymnasium.spaces.Text` takes letters and digits unless told otherwise, and a character set of
    all of Unicode costs 46 MB per pickle. This one looks at the length alone. Samples are short
    garbage: tags, newlines, other scripts. Lone surrogates are members too, as decoded model output
    may hold them; environments replace them before anything else sees the text.
    """

    def __init__(
        self,
        max_length: int,
        *,
        min_length: int = 0,
        seed: int | np.random.Generator | None = None,
    ) -> None:
        super().__init__(
            max_length=max_length,
            min_length=min_length,
            charset=frozenset("".join(_FRAGMENTS)),
            seed=seed,
        )

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """A string of random garbage; with `mask` or `probability`, as `Text` samples."""
        if mask is not None or probability is not None:
            return str(super().sample(mask, probability))
        count = int(self.np_random.integers(_MAX_SAMPLE_FRAGMENTS + 1))
        picks = self.np_random.integers(len(_FRAGMENTS), size=count)
        text = "".join(_FRAGMENTS[pick] for pick in picks)
        return text[: self.max_length].ljust(self.min_length, ".")

    def contains(self, x: Any) -> bool:
        """Whether `x` is a string of an allowed length."""
        return isinstance(x, str) and self.min_length <= len(x) <= self.max_length

    @property
    def is_np_flattenable(self) -> bool:
        """False: a string of any characters has no array of fixed size."""
        return False

    def __repr__(self) -> str:
        return f"UnicodeText({self.min_length}, {self.max_length})"

    def __eq__(self, other: object, /) -> bool:
        return (
            isinstance(other, UnicodeText)
            and self.min_length == other.min_length
            and self.max_length == other.max_length
        )


@create_shared_memory.register(UnicodeText)
def _refuse_shared_memory(space: UnicodeText, n: int = 1, ctx: Any = None) -> Any:
    # Gymnasium reads shared text once, at construction: every later observation would be '000...'.
    raise CustomSpaceError(
        "Text can not travel through shared memory. Use maskgym.envs.make_vec, or pass "
        'vector_kwargs={"shared_memory": False} to gymnasium.make_vec.'
    )
