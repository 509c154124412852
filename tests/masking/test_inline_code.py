import pytest

from maskgym.masking.html_code import find_html_code
from maskgym.masking.inline_code import find_inline_code


def found(text: str, *, must_parse: bool = False) -> list[str]:
    ranges = [(0, len(text))]
    pieces = find_inline_code(text, ranges, must_parse=must_parse)
    return [text[piece.start : piece.end] for piece in pieces]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("the key is `sorted(a)[k-1]`", ["sorted(a)[k-1]"]),
        ("so `x = 3` holds", ["x = 3"]),
        ("``a`b = 1`` + 1", ["a`b = 1"]),
        ("`return x` and `for c in word:` and `else:`", ["return x", "for c in word:", "else:"]),
        ("call `stack.pop()`", ["stack.pop()"]),
        ("one `line\nbreak = 1` may stand inside", ["line\nbreak = 1"]),
    ],
)
def test_what_has_an_operator_a_bracket_or_a_keyword_is_code(text: str, code: list[str]) -> None:
    assert found(text) == code


@pytest.mark.parametrize(
    "text",
    [
        "the list `seen`, the function `len()` and `math.pi`",
        "`some plain words`",
        "a value `42` is for the detector of numbers",
        "`[NUMBER]`",
        "``quoted'' and ``x = 3''",
        "a stray ` here\n\nand = ` there",
        "a` b",
    ],
)
def test_names_words_numbers_and_quotes_stay(text: str) -> None:
    assert found(text) == []


def test_a_search_trace_keeps_titles_in_backticks() -> None:
    assert found("`Kind of Blue (1959)`", must_parse=True) == []
    assert found("`len(x) + 1`", must_parse=True) == ["len(x) + 1"]


def test_two_stray_backticks_far_apart_have_prose_between_them() -> None:
    assert found("5` and " + "so many words (or more) " * 20 + "3`") == []


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("<code>sorted(a)[0]</code>", ["sorted(a)[0]"]),
        ("<code>name</code>", []),
        ("<PRE class='x'><code>\nx\n</code></PRE> b", ["\nx\n"]),
        ("<pre>x = 1", ["x = 1"]),
        ("put it in <execute> tags", []),
        ("<execute>x = 1</execute> b <code>f(1)</code>", ["x = 1", "f(1)"]),
        ("a < b", []),
    ],
)
def test_the_contents_of_html_tags_are_code(text: str, code: list[str]) -> None:
    blocks = find_html_code(text, 0, len(text))
    assert [text[piece.start : piece.end] for block in blocks for piece in block.pieces] == code


def test_a_search_trace_has_tags_that_nothing_closes() -> None:
    assert find_html_code("<pre>x = 1", 0, 10, must_close=True) == []


def test_a_stray_backtick_turns_nothing_around_beyond_its_line() -> None:
    text = '1. Write `""" a list `numbers\'`.\n2. Write `x = []`.\n3. Write `return x`.'
    assert found(text)[-2:] == ["x = []", "return x"]
    assert "Write" not in "".join(found(text))


def test_where_backticks_do_not_pair_every_reading_that_looks_like_code_is_code() -> None:
    assert found("a ` b, then `x = 1` and") == [" b, then ", "x = 1", " b, then `x = 1"][1:]
    assert found("then `x = 1` and ` b") == ["x = 1", "x = 1` and "]
