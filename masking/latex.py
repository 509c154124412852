r"""LaTeX: a text in, one spelling of it for comparison and the places that may state a value out."""

import re
from collections.abc import Iterator
from functools import lru_cache

Range = tuple[int, int]
"""Start and end of a piece of text."""

# What these hold stays, the command goes; what they hold may be a word, "yes" or "cm".
_WRAPPERS = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mbox|operatorname)\b")
_LAYOUT = re.compile(
    r"\\(?:left|right|displaystyle|big|Big|bigg|Bigg|bigl|bigr|quad|qquad)(?![A-Za-z])"
    r"|\\[,;:!> ()\[\]]|[\s$~]"
)
_SAME = re.compile(
    r"\\(?:[dtc]frac|leq|geq|neq|lt|gt|varnothing|Reals)(?![A-Za-z])|[\u221e\u03c0\u2205\u2212\u221a]"
)
_SPELLINGS = {
    **dict.fromkeys(("\\dfrac", "\\tfrac", "\\cfrac"), "\\frac"),
    **{"\\leq": "\\le", "\\geq": "\\ge", "\\neq": "\\ne", "\\lt": "<", "\\gt": ">"},
    **{"\\varnothing": "\\emptyset", "\u2205": "\\emptyset", "\\Reals": "\\mathbb R"},
    **{"\u221e": "\\infty", "\u03c0": "\\pi", "\u2212": "-", "\u221a": "\\sqrt"},
}
_SINGLE = re.compile(r"(?<!\\)\{(\\?[^\\{}])\}")
_EDGES = " \t\r\n&~.,;:!*"
_CLOSING = {"\\[": "\\]", "\\(": "\\)"}
_TOKEN = re.compile(r"\\(?:begin|end)\{[a-z]{4,12}\*?\}|\\.|\$\$?|\n[ \t]*\n", re.DOTALL)
_BRACKET = re.compile(r"(?:\\(?:left|right|[bB]igg?[lr]?))?\\?[()\[\]{}]")
_SEPARATOR = re.compile(
    r"(?P<relation>\\(?:approx|equiv|leq?|geq?|lt|gt|neq?|in|to|sim|iff|implies|[rR]ightarrow"
    r"|Longrightarrow|colon)(?![A-Za-z])|\\\\|&|[=<>:\u2248\u2264\u2265\u21d2\u2208])"
    r"|(?P<comma>[,;]|\\q?quad(?![A-Za-z])|\\text\{ ?(?:or|and) ?\})"
    r"|(?P<open>[(\[{])|(?P<close>[)\]}])|\\."
)


@lru_cache(maxsize=16384)
def normalize_latex(text: str) -> str:
    r"""One spelling for what looks alike: ``\left(\dfrac12, x\right)`` is ``(\frac12,x)``.

    Spaces, size commands, math delimiters, text mode and braces around one character go; words are
    in lower case. Two texts with one spelling show the same; the reverse need not hold.
    """
    text = _WRAPPERS.sub("", text)
    text = _SAME.sub(lambda match: _SPELLINGS[match[0]], text)
    text = _LAYOUT.sub("", text)
    text = _SINGLE.sub(r"\1", text).strip(".,;:!*")
    while text.startswith("{") and text.find("}") == len(text) - 1:  # left by \text{...}
        text = text[1:-1]
    return text if len(text) == 1 else text.casefold()


def math_segments(text: str) -> Iterator[Range]:
    r"""Contents of ``\(...\)``, ``\[...\]``, LaTeX environments, and between any two dollar signs.

    A dollar sign may be money, so no sign is taken for an opening or a closing one: what stands
    between two of them in a paragraph counts, prose as well.
    """
    opened: tuple[str, int] | None = None
    dollar = -1
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token[0] == "$":
            if 0 <= dollar < match.start():
                yield dollar, match.start()
            dollar = match.end()
        elif token[0] == "\n":
            dollar = -1
        elif token in _CLOSING:
            opened = (_CLOSING[token], match.end())
        elif token.startswith("\\begin"):
            opened = ("\\end" + token[6:], match.end())
        elif opened is not None and token == opened[0]:
            yield opened[1], match.start()
            opened = None


def parts_of(text: str, start: int, end: int) -> Iterator[Range]:
    """The whole of a mathematical text, each side of its relations, and each item of its lists.

    Of three or more sides, each two neighbours are a part as well. Brackets are not looked into.
    """
    depth = 0
    sides = [start]  # where each side begins; its end stands in `side_ends`
    side_ends: list[int] = []
    item = start
    for match in _SEPARATOR.finditer(text, start, end):
        if match["open"]:
            depth += 1
        elif match["close"]:
            depth = max(0, depth - 1)
        elif depth == 0 and match.lastgroup in ("relation", "comma"):
            if item > sides[-1] or match["comma"]:
                yield item, match.start()
            item = match.end()
            if match["relation"]:
                side_ends.append(match.start())
                sides.append(match.end())
    side_ends.append(end)
    if item > sides[-1]:
        yield item, end
    for index, (opening, closing) in enumerate(zip(sides, side_ends, strict=True)):
        yield opening, closing
        if index and len(sides) > 2:
            yield sides[index - 1], closing
    if len(sides) > 1:
        yield start, end


def bracketed_lists(text: str, max_length: int) -> Iterator[Range]:
    """Intervals, tuples and sets, brackets included, of at most `max_length` characters."""
    opened: list[tuple[int, int]] = []  # where a bracket stands, number of commas before it
    num_commas = at = 0
    for match in _BRACKET.finditer(text):
        num_commas += text.count(",", at, match.start())
        at = match.end()
        if match[0][-1] in "([{":
            opened.append((match.start(), num_commas))
        elif opened:
            start, num_before = opened.pop()
            if num_commas > num_before and match.end() - start <= max_length:
                yield start, match.end()


def trimmed(text: str) -> str:
    """A text without white space, alignment marks and punctuation around it."""
    text = text.strip(_EDGES)
    return text[:-1] if text.endswith("\\") else text  # half of a thin space
