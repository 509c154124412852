import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskgym.envs import Task
from maskgym.masking import mask
from maskgym.masking.numbers import canonical_number
from maskgym.masking.quantities import scan_quantities

TASK = Task(task_id="t", question="How many?")


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Step 1: 3+4=7", "Step 1: [NUMBER]+[NUMBER]=[NUMBER]"),
        ("3+4", "[NUMBER]+[NUMBER]"),
        ("2k+1", "[NUMBER]k+[NUMBER]"),
        ("x-1 and -5", "x-[NUMBER] and -[NUMBER]"),
        ("48/2 = <<48/2=24>>24", "[NUMBER]/[NUMBER] = <<[NUMBER]/[NUMBER]=[NUMBER]>>[NUMBER]"),
        ("1,234,567 people", "[NUMBER] people"),
        ("1{,}000 or 1\\,000", "[NUMBER] or [NUMBER]"),
        ("$1,234.50", "$[NUMBER]"),
        ("3.14, .5 and 7.", "[NUMBER], [NUMBER] and [NUMBER]."),
        ("50% or 50\\%", "[NUMBER] or [NUMBER]"),
        ("3.2e-4", "[NUMBER]"),
        ("3 \\times 10^{5} and 10^{6}", "[NUMBER] and [NUMBER]"),
        (r"\frac{1}{2} \frac12 \tfrac{10}3", "[NUMBER] [NUMBER] [NUMBER]"),
        (r"3\frac{1}{2}", "[NUMBER]"),
        (r"\frac{a}{b} \sqrt{2}", "[EXPRESSION] [EXPRESSION]"),
        (r"3 \times5 \cdot2", r"[NUMBER] \times[NUMBER] \cdot[NUMBER]"),
        ("3x2=6, 5 x4", "[NUMBER]x[NUMBER]=[NUMBER], [NUMBER] x[NUMBER]"),
        ("0x1F", "[NUMBER]"),
        ("4th of 1990s", "[NUMBER]th of [NUMBER]s"),
        ("\u0663 \uff13, \u00bd", "[NUMBER] [NUMBER], [NUMBER]"),
        ("no number", "no number"),
    ],
)
def test_a_quantity_becomes_one_placeholder_and_its_signs_stay(text: str, masked: str) -> None:
    assert mask(text, TASK).text == masked


def test_thousands_end_where_a_group_is_not_three_digits() -> None:
    assert [span.value for span in scan_quantities("1,234,5678 and 12,34")] == [
        *("1,234", "5678"),
        *("12", "34"),
    ]


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("$1,234.50", "1234.5"),
        ("-007", "7"),
        ("0.50", "0.5"),
        (".5", None),
        ("0", "0"),
        ("0.0", "0"),
        ("50 %", None),
        ("50%", "50"),
        (r"\frac{1}{2}", "1/2"),
        (r"\dfrac12", "1/2"),
        ("3 / 4", "3/4"),
        ("\u0661\u0662", "12"),
        ("12 apples", None),
        ("", None),
    ],
)
def test_equal_magnitudes_have_one_spelling(text: str, canonical: str | None) -> None:
    assert canonical_number(text) == canonical


@settings(deadline=None)
@given(st.text(alphabet="0123456789.,+-=*/%eE^{} x\\frac", max_size=60))
def test_no_number_swallows_an_operator(text: str) -> None:
    for span in scan_quantities(text):
        value = span.value.replace("e-", "e").replace("e+", "e").lower().replace("10^-", "10^")
        for argument in ("{-", "{+"):
            value = value.replace(argument, "{")
        assert not set(value.replace("10^+", "10^").replace("e-", "e").replace("e+", "e")) & set(
            "+-=*/"
        )
        assert text[span.start : span.end] == span.value
