"""In: text in any script. Out: its words, split where Lucene's StandardTokenizer splits.

Unicode's word boundaries (UAX #29) with Lucene's additions: each Han or Hiragana sign is a word,
runs of Thai, Lao, Khmer and Burmese are one word, and so is an emoji. Each character is translated
to a one-letter class and one regular expression runs over the classes, in linear time.
"""

import re
import unicodedata
from bisect import bisect_right

# First and last code point of each run, as Unicode 12.1 has them (Lucene's version); the blocks
# rather than the single assigned points where both classify every letter alike.
_HAN = "2E80-2E99 2E9B-2EF3 2F00-2FD5 3007 3021-3029 3038-303A 3400-4DBF 4E00-9FFF F900-FA6D"
_HAN += " FA70-FAD9 20000-2FA1F"
_HIRAGANA = "3041-3096 309D-309F 1B001-1B11E 1B150-1B152 1F200"
_KATAKANA = "3031-3035 309B-309C 30A0-30FA 30FC-30FF 31F0-31FF 32D0-32FE 3300-3357 FF66-FF9D"
_KATAKANA += " 1B000 1B164-1B167"
_SOUTH_EAST_ASIAN = (
    "E01-E3A E40-E4E E80-EBD EC0-ECD EDC-EDF 1000-103F 1050-108F 109A-109F 1780-17D3"
)
_SOUTH_EAST_ASIAN += (
    " 17D7 17DC-17DD 1950-1974 1980-19C9 19DA 19DE-19DF 1A20-1A5E 1A60-1A7C 1AA0-1AAD"
)
_SOUTH_EAST_ASIAN += " A9E0-A9EF A9FA-A9FE AA60-AAC2 AADB-AADF 11700-1172B 1173A-1173B 1173F"
_HEBREW = "5D0-5EA 5EF-5F2 FB1D FB1F-FB28 FB2A-FB4F"
_PICTOGRAPHS = "A9 AE 203C 2049 2122 2194-2199 21A9-21AA 231A-231B 2328 2388 23CF 23E9-23F3"
_PICTOGRAPHS += " 23F8-23FA 25AA-25AB 25B6 25C0 25FB-25FE 2600-2605 2607-2612 2614-2685 2690-2705"
_PICTOGRAPHS += " 2708-2712 2714 2716 271D 2721 2728 2733-2734 2744 2747 274C 274E 2753-2755 2757"
_PICTOGRAPHS += (
    " 2763-2767 2795-2797 27A1 27B0 27BF 2934-2935 2B05-2B07 2B1B-2B1C 2B50 2B55 3030 303D"
)
_PICTOGRAPHS += " 3297 3299 1F000-1F0FF 1F10D-1F10F 1F12F 1F16C-1F16F 1F18E 1F191-1F19A"
_PICTOGRAPHS += (
    " 1F1AD-1F1E5 1F201-1F20F 1F21A 1F22F 1F232-1F23A 1F23C-1F23F 1F249-1F3FA 1F400-1F53D"
)
_PICTOGRAPHS += (
    " 1F546-1F64F 1F680-1F6FF 1F774-1F77F 1F7D5-1F7FF 1F80C-1F80F 1F848-1F84F 1F85A-1F85F"
)
_PICTOGRAPHS += " 1F888-1F88F 1F8AE-1F8FF 1F90C-1F93A 1F93C-1F945 1F947-1FFFD"
# Letters by Unicode's word rules though not by their general category.
_LETTERS = "2C2-2C5 2D2-2D7 2DE-2DF 2ED 2EF-2FF 55B-55C 55E 5F3 24B6-24E9 A720-A721 A789-A78A AB5B"
_LETTERS += " 1F130-1F149 1F150-1F169 1F170-1F189"
# Between letters, between digits, or between either two of a kind; quotes have rules of their own.
_MID_LETTER = "3A B7 387 5F4 2027 FE13 FE55 FF1A"
_MID_NUMBER = "2C 3B 37E 589 60C-60D 66C 7F8 2044 FE10 FE14 FE50 FE54 FF0C FF1B"
_MID_BOTH = "2E 2018-2019 2024 FE52 FF07 FF0E"

_CLASSES = {
    "I": _HAN,
    "H": _HIRAGANA,
    "K": _KATAKANA,
    "S": _SOUTH_EAST_ASIAN,
    "B": _HEBREW,
    "P": _PICTOGRAPHS,
    "m": _MID_LETTER,
    "n": _MID_NUMBER,
    "b": _MID_BOTH,
    "q": "27",
    "d": "22",
    "E": "5F 202F 203F-2040 2054 FE33-FE34 FE4D-FE4F FF3F",
    "R": "1F1E6-1F1FF",
    "Z": "200D",
    "X": "FF9E-FF9F 1F3FB-1F3FF",
    "L": _LETTERS,
    "N": "66B",
    " ": "200B 3006",
}


def _runs() -> tuple[list[int], list[int], list[str]]:
    runs = []
    for name, listed in _CLASSES.items():
        for run in listed.split():
            first, _, last = run.partition("-")
            runs.append((int(first, 16), int(last or first, 16), name))
    runs.sort()
    return [r[0] for r in runs], [r[1] for r in runs], [r[2] for r in runs]


_FIRSTS, _LASTS, _NAMES = _runs()


class _ClassTable(dict[int, str]):
    """Code point -> class letter, filled as characters are met (`str.translate` asks)."""

    def __missing__(self, point: int) -> str:
        category = unicodedata.category(chr(point))
        run = bisect_right(_FIRSTS, point) - 1
        listed = _NAMES[run] if run >= 0 and point <= _LASTS[run] else ""
        if listed and (category[0] != "M" or listed == "X"):
            name = listed
        elif category[0] == "M" or category == "Cf":
            name = "X"  # belongs to the character before it
        elif category[0] == "L" or category == "Nl":
            name = "L"
        else:
            name = "N" if category == "Nd" else " "
        self[point] = name
        return name


_TABLE = _ClassTable()


def _word_pattern() -> str:
    x = "[XZ]*+"
    joins = f"(?:E{x})*+"
    numbers = f"N{x}(?:(?:{joins}|[nbq]{x})N{x})*"
    letters = f"[LB]{x}(?:(?:{joins}|[mbq]{x})[LB]{x})*(?:(?<=B)(?:q{x}|d{x}(?=B)))?"
    core = f"(?:K{x}(?:{joins}K{x})*|(?:{numbers}|{letters})+)"
    word = f"{joins}{core}(?:E{x}{joins}{core})*{joins}"
    emoji = f"P{x}(?:(?<=Z)P{x})*|R{x}R{x}"
    plain = "L++(?![NBKEXZmbq])"  # a shortcut for most words
    # Joiners without a word are matched too, outside the group: tried again from each of them, the
    # time would be quadratic.
    return f"({plain}|{word}|{emoji}|[IH]{x}|(?:S{x})+)|(?:E{x})+"


_WORD = re.compile(_word_pattern())


def unicode_words(text: str) -> list[str]:
    """The words of a text in order."""
    classes = text.translate(_TABLE)
    matches = _WORD.finditer(classes)
    return [text[match.start() : match.end()] for match in matches if match.lastindex]
