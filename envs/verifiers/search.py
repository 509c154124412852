"""In: an answer in words and its golds. Out: exact match, F1, token-level containment, and a grade.

The normalisation is Search-R1's (lower case, no ASCII punctuation, no articles, single spaces).
`strict` folds Unicode first (accents, dashes, quotes, width), and never lets a gold that vanishes
under normalisation ("A", "The") be matched by an empty answer. `compat` is Search-R1 bit for bit, and
FlashRAG too: both normalise and compare alike, and take containment ("acc", "sub-EM") for a substring.
"""

from __future__ import annotations

import difflib
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum

from ..verdicts import Grade

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_FOLDS = str.maketrans(
    {
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"),
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u00b4\u0060", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033", '"'),
        **{
            "\u00f8": "o",
            "\u0142": "l",
            "\u0111": "d",
            "\u0131": "i",
            "\u00e6": "ae",
            "\u0153": "oe",
        },
    }
)
_ACCENTS = re.compile("[\u0300-\u036f]")  # not the marks of other scripts, which are letters there
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_CLOSED = frozenset({"yes", "no", "noanswer"})


class Normalization(StrEnum):
    """Which normalisation decides equality."""

    STRICT = "strict"
    COMPAT = "compat:search-r1"

    @classmethod
    def from_name(cls, name: str) -> Normalization:
        """That of a mode: "strict", "compat:search-r1", or "compat:flashrag", which is the same."""
        modes = {cls.STRICT: cls.STRICT, cls.COMPAT: cls.COMPAT, "compat:flashrag": cls.COMPAT}
        if name not in modes:
            near = difflib.get_close_matches(name, modes, n=1, cutoff=0.0)[0]
            raise ValueError(
                f"No mode {name!r}. Did you mean {str(near)!r}? There are: {', '.join(modes)}."
            )
        return modes[name]


def normalize_answer(text: str, mode: Normalization = Normalization.STRICT) -> str:
    """The words of `text` that count for equality, separated by single spaces."""
    text = fold(text) if mode is Normalization.STRICT else text.lower()
    return " ".join(_ARTICLES.sub(" ", text.translate(_PUNCTUATION)).split())


def fold(text: str) -> str:
    """Case, width, Latin accents, dashes and quotes made equal; punctuation kept."""
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    return unicodedata.normalize("NFC", _ACCENTS.sub("", folded)).translate(_FOLDS)


def exact_match(
    answer: str, golds: Sequence[str], mode: Normalization = Normalization.STRICT
) -> float:
    """1.0 if the answer equals any gold after normalisation, else 0.0."""
    return float(any(_equal(answer, gold, mode) for gold in _listed(golds)))


def f1_score(
    answer: str, golds: Sequence[str], mode: Normalization = Normalization.STRICT
) -> float:
    """Token overlap with the best gold: ``2 p r / (p + r)``.

    A "yes", "no" or "noanswer" on either side must match exactly.

    Source: Yang et al. 2018 (HotpotQA), hotpot_evaluate_v1.py.
    """
    return max((_f1(answer, gold, mode) for gold in _listed(golds)), default=0.0)


def contains_answer(
    answer: str, golds: Sequence[str], mode: Normalization = Normalization.STRICT
) -> float:
    """1.0 if the words of any gold stand in the answer in a row; never part of a word.

    Under `compat` a substring will do: "George II" in "George III", "---" (nothing) in anything.
    """
    said = normalize_answer(answer, mode)
    words = (normalize_answer(gold, mode) for gold in _listed(golds))
    if mode is Normalization.COMPAT:
        return float(any(each in said for each in words))
    return float(any(each and f" {each} " in f" {said} " for each in words))


def verify_search(answer: str, golds: Sequence[str], *, mode: str = Normalization.STRICT) -> Grade:
    """Correct if the answer equals any gold.

    Args:
        answer: In `strict` the answer. In the compat modes also a whole response, of which the last
            `<answer>` block counts where it has one.
        golds: Any of these is right.
        mode: "strict", or as the scorers of the peers decide: "compat:search-r1" and
            "compat:flashrag", under which nothing equals a gold that vanishes ("The").

    Raises:
        ValueError: If there is no gold, or no such mode.
    """
    normalization = Normalization.from_name(mode)
    if not _listed(golds):
        raise ValueError("There is no gold answer; a search task needs at least one.")
    if normalization is Normalization.COMPAT:
        answer = next(iter(reversed(_ANSWER.findall(answer))), answer)
    elif not answer.strip():
        return Grade.of(False, "no answer")
    is_match = exact_match(answer, golds, normalization) == 1.0
    return Grade.of(is_match, "exact match" if is_match else "no gold matches")


def _equal(answer: str, gold: str, mode: Normalization) -> bool:
    wanted = normalize_answer(gold, mode)
    if wanted or mode is Normalization.COMPAT:
        return normalize_answer(answer, mode) == wanted
    # The gold is an article or punctuation only: then it must be said literally.
    literal = " ".join(fold(gold).split())
    return bool(literal) and " ".join(fold(answer).split()) == literal


def _f1(answer: str, gold: str, mode: Normalization) -> float:
    said, wanted = normalize_answer(answer, mode), normalize_answer(gold, mode)
    if said != wanted and (said in _CLOSED or wanted in _CLOSED):
        return 0.0
    said_words, wanted_words = said.split(), wanted.split()
    num_shared = (Counter(said_words) & Counter(wanted_words)).total()
    if num_shared == 0:
        return 0.0
    precision, recall = num_shared / len(said_words), num_shared / len(wanted_words)
    return 2 * precision * recall / (precision + recall)


def _listed(golds: Sequence[str]) -> Sequence[str]:
    if isinstance(golds, str):
        raise ValueError(f"golds is the string {golds!r}; pass a list of strings, ({golds!r},).")
    return golds
