r"""Tokens of arithmetic: one turn's text and spans in, numbers, operators, words and breaks out.

Plain text, LaTeX, GSM8K's ``<<3+4=7>>`` and a few words ("3 plus 4 is 7") are read alike. What is
no arithmetic (code, labels, punctuation) becomes a break.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from enum import Enum, auto
from fractions import Fraction
from typing import NamedTuple

from .arithmetic import Value, number_value, whole
from .number_words import number_in_words
from .numbers import PLAIN
from .spans import Span, SpanKind


class TokenKind(Enum):
    """What a token is to a reader of equations."""

    NUMBER = auto()
    NAME = auto()
    """A variable, or anything else that has a value which is not known."""
    OPERATOR = auto()
    OPEN = auto()
    CLOSE = auto()
    EQUALS = auto()
    SOFT_EQUALS = auto()
    """A word that equates after a computation only: "3 + 4 is 7"."""
    WORD = auto()
    BREAK = auto()
    """Ends an expression."""
    END = auto()
    """Ends a sentence or a line."""
    NOTE_START = auto()
    NOTE_END = auto()


class Token(NamedTuple):
    """A piece of text with its meaning."""

    kind: TokenKind
    start: int
    end: int
    text: str = ""
    value: Value | None = None
    is_percent: bool = False


# Possessive, first characters disjoint but for the order of alternatives: linear on any input.
_TOKEN = re.compile(
    r"(?P<note><<|>>)"
    rf"|(?P<number>(?:{PLAIN}|(?<![\w.])\.\d++)(?P<percent>\s?\\?%)?+)"
    r"(?P<ordinal>(?:st|nd|rd|th)(?![^\W_]))?+"
    r"|\\[dtc]?frac(?P<digits>\s?\d\d)"
    r"|(?P<command>\\[A-Za-z]++)"
    r"|(?P<line>\n(?![ \t]{0,40}+&?=)|\\\\(?!\s{0,40}+&?=))"
    r"|\\(?P<escape>[^A-Za-z\n])"
    r"|(?P<word>[^\W\d_]{2,}+(?:['\u2019-][^\W\d_]{2,}+|['\u2019][^\W\d_])*+|[^\W\d_])"
    r"|(?P<arrow>=>|->)|(?P<equals>=++)|(?P<power>\*\*)"
    r"|(?P<end>[.;?](?=\s|\Z))|(?P<sign>[^\s\w])|(?P<other>\w)"
)

_OPERATORS = {"+": "+", "-": "-", "\u2212": "-", "\u2013": "-", "*": "*", "/": "/", "^": "^"}
_OPERATORS |= {"\u00d7": "*", "\u00b7": "*", "\u22c5": "*", "\u2217": "*", "\u00f7": "/"}
_SKIPPED_SIGNS = frozenset("$\u20ac\u00a3&~\u00b0%'\"_`")
_COMMANDS = {"times": "*", "cdot": "*", "ast": "*", "div": "/"}
_SKIPPED_COMMANDS = frozenset(
    (
        *("left", "right", "big", "Big", "bigl", "bigr", "Bigl", "Bigr", "displaystyle", "boxed"),
        *("fbox", "text", "textbf", "mathrm", "mathbf", "mbox", "operatorname", "textit"),
    )
)
_BREAKING_COMMANDS = frozenset(
    (
        *("le", "leq", "ge", "geq", "lt", "gt", "ne", "neq", "implies", "Rightarrow", "to", "quad"),
        *("rightarrow", "qquad", "pm", "pmod", "bmod", "mod", "mid", "begin", "end", "in", "iff"),
    )
)
_FRACTIONS = frozenset(("frac", "dfrac", "tfrac", "cfrac"))
_WORDS = {"plus": "+", "minus": "-", "times": "*", "multiplied": "*", "divided": "/"}
_EQUAL_WORDS = frozenset(("equal", "equals"))
_SOFT_EQUAL_WORDS = frozenset(("is", "are", "makes", "gives", "leaves"))
_PARTS = {"half": Fraction(1, 2), "third": Fraction(1, 3), "quarter": Fraction(1, 4)}
_MULTIPLES = {"twice": 2, "double": 2, "thrice": 3}
_UNITS = frozenset("mghslLkcCFNJWV")
_FACTOR_AHEAD = re.compile(r"\s?[$\u20ac\u00a3]?\.?[\d(\\<]")
_OPAQUE = (SpanKind.CODE, SpanKind.OUTPUT, SpanKind.DOCUMENT, SpanKind.QUERY)


def tokens_of(text: str, spans: Iterable[Span]) -> Iterator[Token]:
    """The tokens of one turn in order; its labels, programs and number words are taken from spans.

    Time is linear in the text's length.
    """
    kinds = (*_OPAQUE, SpanKind.LABEL, SpanKind.NUMBER_WORD)
    islands = sorted(
        (span for span in spans if span.kind in kinds), key=lambda span: (span.start, -span.end)
    )
    scanner = _Scanner(text)
    at = 0
    for island in islands:
        if island.start < at:
            continue
        yield from scanner.scan(at, island.start)
        yield scanner.passed(_island(island))
        at = island.end
    yield from scanner.scan(at, len(text))


def _island(span: Span) -> Token:
    start, end = span.start, span.end
    if span.kind is SpanKind.NUMBER_WORD:
        digits = number_in_words(span.value)
        return Token(TokenKind.NUMBER, start, end, value=number_value(digits) if digits else None)
    if span.kind is SpanKind.LABEL and span.value[:1].isalpha() and not _has_space(span.value):
        return Token(TokenKind.NAME, start, end, text=span.value)
    return Token(TokenKind.BREAK if span.kind is SpanKind.LABEL else TokenKind.END, start, end)


def _has_space(text: str) -> bool:
    return any(map(str.isspace, text[:40]))


class _Scanner:
    """Turns matches into tokens; knows the last token and which braces are open."""

    def __init__(self, text: str):
        self._text = text
        self._last = Token(TokenKind.END, 0, 0)  # of those that are no words
        self._braces: list[str] = []  # n: numerator, d: denominator, g: group, t: no meaning
        self._next_brace = "t"

    def passed(self, token: Token) -> Token:
        """The token, from here on the last one."""
        if token.kind is not TokenKind.WORD:
            self._last = token
        return token

    def scan(self, start: int, end: int) -> Iterator[Token]:
        """The tokens of a range, one at a time: what one means depends on the last."""
        word = TokenKind.WORD
        for match in _TOKEN.finditer(self._text, start, end):
            for token in self._tokens(match):
                if token[0] is not word:
                    self._last = token
                yield token

    def _tokens(self, match: re.Match[str]) -> tuple[Token, ...]:
        start, end = match.span()
        group = match.lastgroup
        if group == "word":
            return (self._word(match[0], start, end),)
        if group in ("number", "percent"):
            value = number_value(match["number"].partition("%")[0].rstrip(" \\\t\n\xa0"))
            is_percent = match["percent"] is not None
            value = whole(Fraction(value, 100)) if value is not None and is_percent else value
            return (Token(TokenKind.NUMBER, start, end, value=value, is_percent=is_percent),)
        if group == "sign":
            return self._sign(match[0], start, end)
        if group == "command":
            return self._command(match[0][1:], start, end)
        if group == "digits":
            return self._fraction(
                Token(TokenKind.NUMBER, end - 2, end - 1, value=int(match[0][-2])),
                Token(TokenKind.NUMBER, end - 1, end, value=int(match[0][-1])),
            )
        if group == "note":
            is_start = match[0] == "<<"
            return (Token(TokenKind.NOTE_START if is_start else TokenKind.NOTE_END, start, end),)
        if group == "power":
            is_power = self._last.end == start and self._text[end : end + 1].isdigit()
            return (self._operator("^", start, end),) if is_power else ()
        if group == "line" and self._last.kind in (TokenKind.EQUALS, TokenKind.OPERATOR):
            return ()
        if group == "escape":
            return ()
        return (Token(_PLAIN_KINDS[group or "other"], start, end),)

    def _operator(self, operator: str, start: int, end: int) -> Token:
        return Token(TokenKind.OPERATOR, start, end, text=operator)

    def _fraction(self, above: Token, below: Token) -> tuple[Token, ...]:
        start, end = above.start, below.end
        return (
            *self._mixed(start),
            Token(TokenKind.OPEN, start, start),
            above,
            self._operator("/", below.start, below.start),
            below,
            Token(TokenKind.CLOSE, end, end),
        )

    def _mixed(self, start: int) -> tuple[Token, ...]:
        r"""The silent plus in ``2\frac{1}{2}``."""
        at = self._last.end
        is_mixed = self._last.kind is TokenKind.NUMBER and self._text.startswith("\\", at)
        return (self._operator("mixed", start, start),) if is_mixed else ()

    def _word(self, word: str, start: int, end: int) -> Token:
        has_operand = self._last.kind in (TokenKind.NUMBER, TokenKind.NAME, TokenKind.CLOSE)
        lowered = word.lower()
        if len(word) == 1:
            if lowered == "x" and has_operand and _FACTOR_AHEAD.match(self._text, end):
                return self._operator("*", start, end)
            part = unicodedata.numeric(word, None)
            if part is not None and not part.is_integer():
                value = Fraction(part).limit_denominator(10)
                return Token(TokenKind.NUMBER, start, end, value=value)
            is_unit = self._last.kind is TokenKind.NUMBER and word in _UNITS
            is_article = lowered in "ai" and not self._text.startswith(("=", " ="), end)
            kind = TokenKind.WORD if is_unit or is_article else TokenKind.NAME
            return Token(kind, start, end, text=word)
        if lowered in _WORDS and has_operand:
            return self._operator(_WORDS[lowered], start, end)
        if lowered in _EQUAL_WORDS:
            return Token(TokenKind.EQUALS, start, end)
        if lowered in _SOFT_EQUAL_WORDS:
            return Token(TokenKind.SOFT_EQUALS, start, end)
        if lowered in _PARTS and self._text.startswith(" of ", end):
            return Token(TokenKind.NUMBER, start, end, text=word, value=_PARTS[lowered])
        if lowered in _MULTIPLES and _FACTOR_AHEAD.match(self._text, end):
            return Token(TokenKind.NUMBER, start, end, text=word, value=_MULTIPLES[lowered])
        is_share = self._last.is_percent or (self._last.text and self._last.value is not None)
        if lowered == "of" and (is_share or self._is_behind_fraction(start)):
            return self._operator("*", start, end)
        return Token(TokenKind.WORD, start, end, text=word)

    def _is_behind_fraction(self, at: int) -> bool:
        """Whether "1/2" stands right before: then "of" multiplies."""
        return bool(_FRACTION_BEHIND.search(self._text, max(0, at - 12), at))

    def _sign(self, sign: str, start: int, end: int) -> tuple[Token, ...]:
        text = self._text
        if sign in _OPERATORS:
            operator = _OPERATORS[sign]
            ahead = text[end : end + 2]
            is_marker = self._last.kind is TokenKind.END and ahead[:1].isspace()
            if is_marker and operator in "+-*":
                return ()
            is_inside_word = operator == "-" and text[start - 1 : start].isdigit()
            is_unit = operator == "/" and self._last.kind is not TokenKind.NAME
            if (is_inside_word or is_unit) and len(ahead) == 2 and ahead.isalpha():
                return ()
            return (self._operator(operator, start, end),)
        if sign == "{":
            is_group = self._last.text == "^" and self._last.end == start
            brace = "g" if is_group else self._next_brace
            self._braces.append(brace)
            self._next_brace = "t"
            return (Token(TokenKind.OPEN, start, end),) if brace != "t" else ()
        if sign == "}":
            return self._closed(self._braces.pop() if self._braces else "t", start, end)
        if sign in "([":
            return (Token(TokenKind.OPEN, start, end),)
        if sign in ")]":
            return (Token(TokenKind.CLOSE, start, end),)
        if sign == "\u2248":
            return (Token(TokenKind.EQUALS, start, end),)
        if sign in _SKIPPED_SIGNS:
            return ()
        return (Token(TokenKind.BREAK, start, end),)

    def _closed(self, brace: str, start: int, end: int) -> tuple[Token, ...]:
        close = Token(TokenKind.CLOSE, start, end)
        if brace == "n":
            if not self._text.startswith("{", end):
                return (Token(TokenKind.BREAK, start, end),)
            self._next_brace = "d"
            return close, self._operator("/", end, end)
        if brace == "d":
            return close, Token(TokenKind.CLOSE, end, end)
        return (close,) if brace == "g" else ()

    def _command(self, name: str, start: int, end: int) -> tuple[Token, ...]:
        if name in _FRACTIONS and self._text.startswith("{", end):
            self._next_brace = "n"
            return *self._mixed(start), Token(TokenKind.OPEN, start, end)
        if name == "sqrt" and self._text.startswith("{", end):
            self._next_brace = "g"
            return (self._operator("sqrt", start, end),)
        if name in _COMMANDS:
            return (self._operator(_COMMANDS[name], start, end),)
        if name == "approx":
            return (Token(TokenKind.EQUALS, start, end),)
        if name in _SKIPPED_COMMANDS:
            return ()
        if name in _BREAKING_COMMANDS or name in _FRACTIONS or name == "sqrt":
            return (Token(TokenKind.BREAK, start, end),)
        return (Token(TokenKind.NAME, start, end, text=f"\\{name}"),)


_FRACTION_BEHIND = re.compile(r"\d/\d{1,3}\s$")
_PLAIN_KINDS = {
    "ordinal": TokenKind.WORD,
    "line": TokenKind.END,
    "arrow": TokenKind.BREAK,
    "equals": TokenKind.EQUALS,
    "end": TokenKind.END,
    "other": TokenKind.BREAK,
}
