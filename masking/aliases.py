"""Aliases: an answer or entity in, the written forms that would give it away out."""

import re
from collections.abc import Collection, Iterator, Sequence
from enum import Enum
from typing import NamedTuple

from .alias_values import date_forms, number_forms, unsigned
from .common_words import COMMON_WORDS, FUNCTION_WORDS
from .folding import fold
from .normal_text import normal_words
from .numbers import THOUSANDS, canonical_number

_WRAPPED = re.compile(r"\$+([^$]+)\$+|\\\((.+)\\\)|\\(?:text|textbf|mathrm|mbox)\{([^{}]*)\}")
_FRACTION = re.compile(r"(\d+(?:\.\d+)?)/(\d+(?:\.\d+)?)")
_THOUSANDS = re.compile(THOUSANDS)
_BRACKETED = re.compile(r"\s*[(\[][^()\[\]]*[)\]]\s*")
ARTICLES = frozenset(("the", "a", "an"))
_TITLES = frozenset(
    (
        *("mr", "mrs", "ms", "miss", "dr", "sir", "dame", "lord", "lady", "king", "queen"),
        *("prince", "princess", "president", "saint", "st", "pope", "emperor", "captain"),
        *("general", "professor", "prof", "colonel", "senator", "governor", "judge"),
    )
)
_SUFFIXES = frozenset(("jr", "sr", "ii", "iii", "iv", "phd", "esq", "inc", "ltd"))
_PARTICLES = frozenset(
    ("de", "del", "della", "der", "den", "di", "da", "du", "van", "von", "la", "le", "bin", "al")
)
_ACRONYMS = frozenset(("us", "usa", "uk", "un", "eu", "dc"))
_ANSWER_WORDS = frozenset(("no", "none"))
# What may stand between the words of a name; any other sign makes an alias mathematics.
_BETWEEN_WORDS = re.compile(r"[\s\-_'.,&/():;!?\"\u2018-\u201d\u2010-\u2014]+")
_INITIALS = re.compile(r"[^\W\d_](?: [^\W\d_])+")
_TIGHT = re.compile(r"\s+|[.,']\s*|-")
_MAX_NAME_WORDS = 5
_MIN_PARTIAL_LENGTH = 3


class SurfaceForm(Enum):
    """How a surface is looked for."""

    WORDS = "words"
    """Normal words, bounded by the ends of words."""
    CAPITALISED = "capitalised"
    """Normal words that count only where the text capitalises them: "Who", never "who"."""
    ALONE = "alone"
    """A word that counts only where an answer stands: "no." but not "no information"."""
    VALUE = "value"
    """A number in canonical digits, however it is written."""
    SIGNS = "signs"
    """Folded signs, white space ignored: "x-1"."""
    CAPITALS = "capitals"
    """A normal word that counts only in capitals: "US", never "us" or "Us"."""
    REORDERED = "reordered"
    """Normal words, with a comma or a space behind the first, never a stop: "Lovelace, Ada"."""
    LITERAL = "literal"
    """Signs as they are, where folding leaves nothing of them: the rupee sign."""
    LETTER = "letter"
    """A single capital letter where a choice stands."""


class Surface(NamedTuple):
    """One written form of an alias, folded."""

    text: str
    form: SurfaceForm
    is_partial: bool = False
    """Whether it is a part of a name only; it may mean somebody else."""


def surfaces_of(
    alias: str,
    question_words: Collection[str] = frozenset(),
    *,
    has_partials: bool = True,
    has_orders: bool = True,
) -> tuple[Surface, ...]:
    """All surfaces of one alias, the alias itself first; empty if nothing is in it.

    Args:
        alias: An answer or entity as a data set writes it.
        question_words: Normal words of the question; a part of a name that is among them, and a
            form whose every word is, is no surface.
        has_partials: Whether a first or last name alone counts.
        has_orders: Whether names count in another order or with initials.
    """
    alias = _unwrapped(alias)
    letter = alias.strip("(). ")
    if len(letter) == 1 and letter.isalpha() and letter.isascii():
        return (Surface(letter, SurfaceForm.LETTER),)
    value, forms = number_forms(alias)
    if value is not None:
        words = (Surface(form, SurfaceForm.WORDS) for form in forms)
        return (Surface(value, SurfaceForm.VALUE), *words)
    if _INITIALS.fullmatch(alias):
        return tuple(_initials(alias))
    if _is_sign_of_letters(alias):
        return (Surface(alias, SurfaceForm.LITERAL),)
    if not _is_name(alias) and not any(date_forms(normal_words(alias))):
        return tuple(Surface(signs, SurfaceForm.SIGNS) for signs in _signs(alias))
    return tuple(dict.fromkeys(_name_surfaces(alias, question_words, has_partials, has_orders)))


def _unwrapped(alias: str) -> str:
    r"""An alias without the mathematics or text mode around it: "$\text{Yes}$" -> "Yes"."""
    alias = alias.strip()
    while match := _WRAPPED.fullmatch(alias):
        alias = next(part for part in match.groups() if part is not None).strip()
    return alias


def _is_sign_of_letters(alias: str) -> bool:
    """Whether folding makes letters of signs: the rupee sign is no "Rs", a circled O no "o"."""
    folded = fold(alias).text
    if not normal_words(alias):
        return any(map(str.isalnum, folded))
    return len(folded) == 1 and folded.isascii() and not alias.isascii()


def _initials(alias: str) -> Iterator[Surface]:
    """Single letters, apart or together: "A S D F" is "ASDF", but "I S" not "is"."""
    words = normal_words(alias)
    yield Surface(" ".join(words), SurfaceForm.WORDS)
    if (joined := "".join(words)) not in COMMON_WORDS:
        yield Surface(joined, SurfaceForm.WORDS)


def _signs(alias: str) -> Iterator[str]:
    first, _, rest = alias.partition(" ")
    alias = unsigned(rest if first.lower() == "the" else alias)
    signs = "".join(fold(alias).text.replace('"', " ").split())
    if signs:
        yield signs
    fraction = _FRACTION.fullmatch(canonical_number(alias) or "")
    if fraction:
        above, below = fraction.groups()
        yield f"{above}/{below}"
        for command in ("frac", "dfrac", "tfrac"):
            yield rf"\{command}{{{above}}}{{{below}}}"


def _is_name(alias: str) -> bool:
    """Whether an alias is words, so that the signs between them may vary."""
    folded = fold(alias).text.strip(" .,;:!?'\"()")
    if not any(len(word) > 1 and word.isalpha() for word in re.split(r"[\W_\d]+", folded)):
        # "U.S." and "R.E.M." are names, "x - 1" and "a.b" are not.
        return bool(re.fullmatch(r"(?:[^\W\d_]\.\s?){2,}", alias))
    at = 0
    for match in re.finditer(r"[^\w]+", folded):
        left, right = folded[at : match.start()], folded[match.end() : match.end() + 2]
        at = match.end()
        if not _BETWEEN_WORDS.fullmatch(match[0]):
            return False
        is_wordy = len(left) > 1 and left.isalpha() and len(right) > 1 and right.isalpha()
        if not is_wordy and not _TIGHT.fullmatch(match[0]) and "-" in match[0]:
            return False
    return True


def _name_surfaces(
    alias: str, question_words: Collection[str], has_partials: bool, has_orders: bool
) -> Iterator[Surface]:
    words = normal_words(alias)
    if len(words) > 1 and words[0] in ARTICLES:
        del words[0]
        alias = alias.strip().partition(" ")[2]
    whole = " ".join(words)
    yield Surface(whole, _form_of_whole(whole, alias))
    dates = list(date_forms(words))
    forms = [Surface(form, _form_of_whole(form, alias)) for form in dates]
    for form in _spellings(alias, words):
        is_acronym = len(words) > 1 and form == "".join(words)
        if is_acronym and form in FUNCTION_WORDS:
            forms.append(Surface(form, SurfaceForm.CAPITALS))  # "US" for "U.S."
        elif is_acronym or form not in COMMON_WORDS:
            forms.append(Surface(form, _form_of_whole(form, alias)))
    forms += _reordered(alias) if has_orders else ()
    for surface in forms:
        # What is left of a name without some of its words may be what is asked about.
        parts = set(surface.text.split())
        is_asked = parts < set(words) and parts <= set(question_words)
        if surface.text and surface.text != whole and not is_asked:
            yield surface
    if not has_partials or dates:
        return
    for part in _partials(alias):
        if part not in question_words:
            yield Surface(part, SurfaceForm.WORDS, is_partial=True)


def _form_of_whole(form: str, alias: str) -> SurfaceForm:
    if form in _ANSWER_WORDS:
        return SurfaceForm.ALONE
    is_grammar = form in FUNCTION_WORDS and form != "yes"
    if is_grammar and alias.isupper():
        return SurfaceForm.CAPITALS
    is_capitalised = any(character.isupper() for character in alias)
    return SurfaceForm.CAPITALISED if is_grammar and is_capitalised else SurfaceForm.WORDS


def _spellings(alias: str, words: Sequence[str]) -> Iterator[str]:
    """The same words with other signs: no brackets, "&" for "and", "1800" for "1,800"."""
    plain = _BRACKETED.sub(" ", alias)
    if plain.strip():
        yield _named(normal_words(plain))
    if "and" in words[1:-1]:
        yield " ".join(word for word in words if word != "and")
    if "&" in alias:
        yield " ".join(normal_words(alias.replace("&", " and ")))
    if ARTICLES.intersection(words):
        yield " ".join(word for word in words if word not in ARTICLES)
    if any(word.isdigit() for word in words):
        yield " ".join(normal_words(_THOUSANDS.sub(_without_commas, alias)))
    joined = re.sub(r"(?<=\w)['\u2019.\-](?=\w)|\.", "", alias)
    if joined != alias:
        # "Spider-Man" and "Spiderman", "U.S." and "US", "J. K." and "JK"
        yield " ".join(normal_words(joined))
    is_acronym = alias.isupper() or alias in _ACRONYMS
    if is_acronym and alias.isalpha() and len(alias) <= 5:
        yield " ".join(alias.lower())  # "U.S." for "US"
    if alias.endswith(("'s", "\u2019s")):
        yield " ".join(words[:-1])


def _without_commas(match: re.Match[str]) -> str:
    return re.sub(r"\D", "", match[0])


def _named(words: Sequence[str]) -> str:
    """The words without an article or a title in front and a suffix behind, if two are left."""
    words = list(words)
    while len(words) > 2 and (words[0] in _TITLES or words[0] in ARTICLES):
        del words[0]
    while len(words) > 2 and words[-1] in _SUFFIXES:
        del words[-1]
    return " ".join(words)


def _names(alias: str) -> list[str]:
    """The words of a name in speaking order, without brackets, titles and suffixes; else []."""
    plain = _BRACKETED.sub(" ", alias)
    parts = [part for part in plain.split(",") if part.strip()]
    if len(parts) > 1 and set(normal_words(parts[-1])) <= _SUFFIXES:
        parts = parts[:-1]
    if len(parts) == 2:
        parts = parts[::-1]  # "Lovelace, Ada"
    plain = " ".join(parts)
    if any(character.isdigit() or character in "&/;:" for character in plain):
        return []
    if len(parts) > 2 or "and" in plain.lower().split():
        return []
    names = [name for name in re.split(r"[\s.]+", plain) if name]
    is_cased = not plain.islower()
    if is_cased and not all(n[0].isupper() or n.lower() in _PARTICLES for n in names):
        return []
    words = [" ".join(normal_words(name)) for name in names]
    words = [word for word in words if word]
    while words and (words[0] in _TITLES or words[0] in ARTICLES):
        del words[0]
    while words and words[-1] in _SUFFIXES:
        del words[-1]
    return words if len(words) <= _MAX_NAME_WORDS else []


def _reordered(alias: str) -> Iterator[Surface]:
    """A name with its last word first, with initials, and without what stands in the middle."""
    names = _names(alias)
    for form in _in_speaking_order(alias, names):
        if form not in COMMON_WORDS:
            yield Surface(form, SurfaceForm.WORDS)
    if len(names) > 1 and _is_last_name(names[-1]):
        *given, last = names
        yield Surface(f"{last} {' '.join(given)}", SurfaceForm.REORDERED)
        if len(given) > 1:
            yield Surface(f"{last} {given[0]}", SurfaceForm.REORDERED)


def _is_last_name(name: str) -> bool:
    return name not in COMMON_WORDS and len(name) >= _MIN_PARTIAL_LENGTH


def _in_speaking_order(alias: str, names: Sequence[str]) -> Iterator[str]:
    if "," in alias and names:
        yield " ".join(names)
    if len(names) < 2 or not _is_last_name(names[-1]):
        return
    *given, last = names
    first = given[0]
    initials = [name[0] for name in given]
    yield f"{first} {last}"
    yield f"{initials[0]} {last}"
    if len(given) > 1:
        yield f"{' '.join(initials)} {last}"
        yield f"{''.join(initials)} {last}"
        yield f"{first} {' '.join(initials[1:])} {last}"


def _partials(alias: str) -> Iterator[str]:
    """The first and the last word of a name, unless they are common."""
    names = _names(alias)
    for name in dict.fromkeys(names[:1] + names[-1:]):
        is_common = name in COMMON_WORDS or name.removesuffix("s") in COMMON_WORDS
        if len(name) >= _MIN_PARTIAL_LENGTH and not is_common and name not in _PARTICLES:
            yield name
