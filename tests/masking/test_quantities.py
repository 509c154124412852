r"""Quantities: each case is a defect measured on the released masker (notes B1), or a form it never saw."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskgym.envs import Task
from maskgym.masking import SpanKind, mask
from maskgym.masking.quantities import scan_quantities

TASK = Task(task_id="t", question="How many?")


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Step 3: use 4", "Step 3: use [NUMBER]"),
        ("3+4=7", "[NUMBER]+[NUMBER]=[NUMBER]"),
        ("x-1", "x-[NUMBER]"),
        ("GPT-4", "GPT-4"),
        (r"\frac12 \tfrac12 \dfrac{1}2 \frac1{2} \frac 12", " ".join(["[NUMBER]"] * 5)),
        (r"\frac{\sqrt{2}}{2}", "[EXPRESSION]"),
        (r"\frac{1}{\sqrt{\frac{2}{3}}}", "[EXPRESSION]"),
        (r"2\pi and \frac{3\pi}{4} and \pi", "[EXPRESSION] and [EXPRESSION] and [CONSTANT]"),
        (r"\sqrt[3]{8} \sqrt8 \sqrt{a} \binom{5}{2}", " ".join(["[EXPRESSION]"] * 4)),
        (r"2\sqrt{3}, 3\frac{1}{2}, 1\,\pi", "[EXPRESSION], [NUMBER], [EXPRESSION]"),
        (r"\frac{a}{b} and \frac{x_1}{2y}", "[EXPRESSION] and [EXPRESSION]"),
        (r"\frac{-3}{4}", "[NUMBER]"),
        (r"\frac{50}{100}\%", "[NUMBER]"),
        ("1,234,567", "[NUMBER]"),
        ("10^{6} + 10^6 - 10\u2076", "[NUMBER] + [NUMBER] - [NUMBER]"),
        ("2^{n} = 2^{10}", "[NUMBER]^{n} = [NUMBER]^{[NUMBER]}"),
        ("0x1F", "[NUMBER]"),
        ("1.5 \\times 10^{-9} or 1.5 x 10^5 or 2e-3", "[NUMBER] or [NUMBER] or [NUMBER]"),
        ("x\u00b2, 3\u00b2, \u00bd, 1\u00bd, 1 \u00bd", "x[NUMBER], [NUMBER], [NUMBER], [NUMBER], [NUMBER]"),
        ("\u0663 and \uff13", "[NUMBER] and [NUMBER]"),
        (r"\infty, \emptyset, 2pi, pi", "[CONSTANT], [CONSTANT], [EXPRESSION], [CONSTANT]"),
        ("\u221e, 2\u03c0, \u2205, infinity", "[CONSTANT], [EXPRESSION], [CONSTANT], [CONSTANT]"),
        ("e^x, 2e^{-t}", "[CONSTANT]^x, [NUMBER][CONSTANT]^{-t}"),
        ("i^2 = -1, so 3i + 2", "[CONSTANT]^[NUMBER] = -[NUMBER], so [NUMBER][CONSTANT] + [NUMBER]"),
        (r"\text{XII}, \text{ten}, MIX", r"\text{[NUMBER]}, \text{[NUMBER]}, MIX"),
        (r"(-\infty,0)", r"(-[CONSTANT],[NUMBER])"),
        (r"5\%, $5, 5^\circ, 5\text{ cm}", r"[NUMBER], $[NUMBER], [NUMBER]^\circ, [NUMBER]\text{ cm}"),
    ],
)  # fmt: skip
def test_one_quantity_gives_one_placeholder(text: str, masked: str) -> None:
    assert mask(text, TASK).text == masked


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (r"\frac{n + 1}{2}", r"\frac{n + [NUMBER]}{[NUMBER]}"),
        (r"\frac{1}{1 - r}", r"\frac{[NUMBER]}{[NUMBER] - r}"),
        (r"\frac{3 \cdot 4}{2}", r"\frac{[NUMBER] \cdot [NUMBER]}{[NUMBER]}"),
        (r"\sqrt{b^2-4ac}", r"\sqrt{b^[NUMBER]-[NUMBER]ac}"),
        (r"\frac{dy}{dx} = 3", r"\frac{dy}{dx} = [NUMBER]"),
        (r"\frac{miles}{hour}", r"\frac{miles}{hour}"),
        (r"\frac{1\frac{1\frac{1", r"\frac{[NUMBER]\frac{[NUMBER]\frac{[NUMBER]"),
        (r"\frac{12}{", r"\frac{[NUMBER]}{"),
        (r"\frac123", "[NUMBER][NUMBER]"),
        ("for i = 1 to n", "for i = [NUMBER] to n"),
        ("type, pick, recipe, spin", "type, pick, recipe, spin"),
        (r"\pi_1 r", r"[CONSTANT]_[NUMBER] r"),
        ("a.5 and 1.2.3", "a.[NUMBER] and [NUMBER].[NUMBER]"),
        ("version 12,34", "version [NUMBER],[NUMBER]"),
        ("6 \\\\ 7", "[NUMBER] \\\\ [NUMBER]"),
    ],
)
def test_an_operator_is_never_hidden(text: str, masked: str) -> None:
    assert mask(text, TASK).text == masked


def test_kinds_say_what_a_quantity_is_made_of() -> None:
    kinds = [span.kind for span in scan_quantities(r"5, \frac{1}{2}, \pi, \sqrt{2}, 2\pi")]
    number, constant = SpanKind.NUMBER, SpanKind.CONSTANT
    assert kinds == [number, number, constant, SpanKind.EXPRESSION, SpanKind.EXPRESSION]


@settings(deadline=None, max_examples=300)
@given(
    st.lists(
        st.sampled_from(
            [
                *(
                    "1",
                    "23",
                    ",",
                    ".",
                    "4,567",
                    "\\frac",
                    "{",
                    "}",
                    "\\sqrt",
                    "[",
                    "]",
                    "\\pi",
                    " ",
                ),
                *(
                    "x",
                    "10^",
                    "e",
                    "%",
                    "\\",
                    "\u00bd",
                    "\u00b2",
                    "\u0663",
                    "-",
                    "\\text{XII}",
                    "\\times ",
                ),
            ]
        ),
        max_size=20,
    ).map("".join)
)
def test_every_digit_is_in_one_quantity_and_no_two_overlap(text: str) -> None:
    covered = 0
    hidden = bytearray(len(text))
    for span in scan_quantities(text):
        assert covered <= span.start < span.end and text[span.start : span.end] == span.value
        covered = span.end
        hidden[span.start : span.end] = b"\1" * (span.end - span.start)
        assert span.value.count("{") == span.value.count("}")
    for character, is_hidden in zip(text, hidden, strict=True):
        assert is_hidden or not (character.isdigit() or character.isnumeric())
