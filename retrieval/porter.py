"""In: a lower-case English word. Out: its stem by Porter's algorithm with Martin's two extensions.

Source: Porter 1980, "An algorithm for suffix stripping", and the author's own later version
(https://tartarus.org/martin/PorterStemmer), which departs from the paper in ``bli -> ble`` and
``logi -> log``. Lucene's PorterStemFilter is that version, so this one is too.
"""

_VOWELS = frozenset("aeiou")

# Steps 2 and 3: suffix -> replacement, where the stem before it has a measure above 0. Of several
# suffixes that fit, the longest counts, whether or not its condition holds.
_STEP_2 = {
    "ational": "ate",
    "tional": "tion",
    "enci": "ence",
    "anci": "ance",
    "izer": "ize",
    "bli": "ble",
    "alli": "al",
    "entli": "ent",
    "eli": "e",
    "ousli": "ous",
    "ization": "ize",
    "ation": "ate",
    "ator": "ate",
    "alism": "al",
    "iveness": "ive",
    "fulness": "ful",
    "ousness": "ous",
    "aliti": "al",
    "iviti": "ive",
    "biliti": "ble",
    "logi": "log",
}
_STEP_3 = {
    "icate": "ic",
    "ative": "",
    "alize": "al",
    "iciti": "ic",
    "ical": "ic",
    "ful": "",
    "ness": "",
}
_STEP_4_LISTED = "al ance ence er ic able ible ant ement ment ent ion ou ism ate iti ous ive ize"
_STEP_4 = frozenset(_STEP_4_LISTED.split())


def stem(word: str) -> str:
    """The stem of a lower-case word; words of one or two letters are their own stems."""
    if len(word) <= 2:
        return word
    word = _strip_inflection(word)
    if len(word) > 1 and word[-1] == "y" and _has_vowel(word[:-1]):
        word = word[:-1] + "i"
    word = _replace(_replace(word, _STEP_2, 7), _STEP_3, 5)
    word = _drop_ending(word)
    measure = _measure(word)
    if word[-1] == "e" and (measure > 1 or (measure == 1 and not _ends_short(word[:-1]))):
        word = word[:-1]
    if measure > 1 and word.endswith("ll"):
        word = word[:-1]
    return word


def _shape(word: str) -> str:
    """``c`` or ``v`` for each letter; ``y`` is a vowel after a consonant, all else a consonant."""
    shape = ""
    for letter in word:
        is_vowel = letter in _VOWELS or (letter == "y" and shape.endswith("c"))
        shape += "v" if is_vowel else "c"
    return shape


def _measure(word: str) -> int:
    """How often a vowel is followed by a consonant: m in ``[C](VC)^m[V]``."""
    return _shape(word).count("vc")


def _has_vowel(word: str) -> bool:
    return "v" in _shape(word)


def _ends_short(word: str) -> bool:
    """Whether the word ends consonant, vowel, consonant, the last none of w, x, y."""
    return len(word) >= 3 and _shape(word).endswith("cvc") and word[-1] not in "wxy"


def _ends_double(word: str) -> bool:
    return len(word) >= 2 and word[-1] == word[-2] and _shape(word)[-1] == "c"


def _strip_inflection(word: str) -> str:
    """Step 1a and 1b: plurals, -ed and -ing."""
    if word.endswith(("sses", "ies")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith("ss"):
        word = word[:-1]
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    for suffix in ("ed", "ing"):
        base = word.removesuffix(suffix)
        if base == word:
            continue
        if not _has_vowel(base):
            return word
        if base.endswith(("at", "bl", "iz")) or (_measure(base) == 1 and _ends_short(base)):
            return base + "e"
        return base[:-1] if _ends_double(base) and base[-1] not in "lsz" else base
    return word


def _replace(word: str, rules: dict[str, str], longest: int) -> str:
    for length in range(longest, 2, -1):
        replacement = rules.get(word[-length:])
        if replacement is not None:
            base = word[:-length]
            return base + replacement if _measure(base) > 0 else word
    return word


def _drop_ending(word: str) -> str:
    """Step 4: an ending falls where the stem before it has a measure above 1."""
    for length in range(5, 1, -1):
        if word[-length:] in _STEP_4:
            base = word[:-length]
            if word[-length:] == "ion" and not base.endswith(("s", "t")):
                return word
            return base if _measure(base) > 1 else word
    return word
