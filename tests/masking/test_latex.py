import time

import pytest

from maskgym.masking.latex import (
    bracketed_lists,
    math_segments,
    normalize_latex,
    parts_of,
    trimmed,
)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"\dfrac{1}{2}", r"\frac12"),
        (r"\left( -\infty,\, 0 \right)", r"(-\infty,0)"),
        (r"$\text{Yes}$.", "yes"),
        (r"\mathrm{cm}", "cm"),
        (r"x^{2}", "x^2"),
        (r"\(a \leq b\)", r"a\le b"),
        ("\u221e", r"\infty"),
        ("\u2212\u03c0", r"-\pi"),
        (r"\varnothing", r"\emptyset"),
    ],
)
def test_what_looks_alike_has_one_spelling(one: str, other: str) -> None:
    assert normalize_latex(one) == normalize_latex(other) != ""


@pytest.mark.parametrize(("one", "other"), [("n", "N"), ("x+1", "x-1"), ("12", "1.2"), ("e", "i")])
def test_what_does_not_look_alike_has_another(one: str, other: str) -> None:
    assert normalize_latex(one) != normalize_latex(other)


def texts(text: str, ranges: list[tuple[int, int]]) -> list[str]:
    return [text[start:end] for start, end in ranges]


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        (r"so $x$ and \(y\), \[z\]", ["x", "y", "z"]),
        (r"$$a+b$$ it", ["a+b"]),
        (r"it costs $5. So $x+2$ is it", ["5. So ", "x+2"]),
        (r"\$5 and $x$", ["x"]),
        ("$x\n\ny$", []),
        (r"\begin{align*}a&=b\end{align*}", ["a&=b"]),
        (r"\(a\[b\) c", []),
        ("", []),
    ],
)
def test_mathematical_text_is_found(text: str, segments: list[str]) -> None:
    assert texts(text, list(math_segments(text))) == segments


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("x", {"x"}),
        ("y=mx", {"y=mx", "y", "mx"}),
        ("a=b=c", {"a=b=c", "a", "b", "c", "a=b", "b=c"}),
        ("1,2", {"1,2", "1", "2"}),
        ("x=1,2", {"x=1,2", "x", "1,2", "1", "2"}),
        (r"x \in (0,1)", {r"x \in (0,1)", "x ", " (0,1)"}),
        (r"a \leq b \\ c", {r"a \leq b \\ c", "a ", " b ", " c", r"a \leq b ", r" b \\ c"}),
        (r"\le{=}", {r"\le{=}", "", "{=}"}),
    ],
)
def test_a_formula_has_sides_and_items(text: str, parts: set[str]) -> None:
    found = set(texts(text, list(parts_of(text, 0, len(text)))))
    assert {part for part in parts if part} <= found
    assert "(0" not in found and len(found) <= len(parts) + 1


def test_lists_in_brackets_are_found_with_their_brackets() -> None:
    text = r"f(x) on (-\infty, 0) and [1,2) or \{3, (4,5)\}, (none"
    found = texts(text, list(bracketed_lists(text, 100)))
    assert found == [r"(-\infty, 0)", "[1,2)", "(4,5)", r"\{3, (4,5)\}"]
    assert texts(text, list(bracketed_lists(text, 5))) == ["[1,2)", "(4,5)"]


def test_a_text_is_trimmed_to_what_it_holds() -> None:
    assert trimmed(" & 12.5.  ") == "12.5"
    assert trimmed(r"x\,") == "x"
    assert trimmed(" . ") == ""


@pytest.mark.parametrize(
    "piece", ["$", "(", "{1,", r"\(", "$a=", r"\begin{align}", "[,]", "=,", "\\"]
)
@pytest.mark.usefixtures("no_garbage_collection")
def test_time_grows_with_the_text(piece: str) -> None:
    def seconds(num: int) -> float:
        text = piece * (num // len(piece))
        start = time.process_time()
        for begin, end in math_segments(text):
            for _ in parts_of(text, begin, end):
                pass
        for _ in parts_of(text, 0, len(text)):
            pass
        for _ in bracketed_lists(text, 200):
            pass
        normalize_latex.__wrapped__(text)
        return time.process_time() - start

    assert seconds(400_000) < 12 * max(seconds(100_000), 0.01)
