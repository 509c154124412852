import pytest

from maskgym.envs import Domain, Task
from maskgym.masking import SpanKind, mask
from maskgym.masking.dates import find_dates
from maskgym.masking.traces import TraceTurn, TurnKind

MATH = Task(task_id="t", question="When?")
SEARCH = Task(task_id="t", question="When?", domain=Domain.SEARCH)


@pytest.mark.parametrize("task", [MATH, SEARCH])
@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("on 2024-05-12.", "on [DATE]."),
        ("at 2024-05-12T10:30:00Z", "at [DATE]"),
        ("born 12 May 2024 in Rome", "born [DATE] in Rome"),
        ("born the 3rd of April, 1999", "born the [DATE]"),
        ("born May 12, 2024, in Rome", "born [DATE], in Rome"),
        ("on Tuesday, 5 May 2020", "on [DATE]"),
        ("on Jan. 5 or 5 Sept 1990", "on [DATE] or [DATE]"),
        ("12/05/2024 or 12.05.2024", "[DATE] or [DATE]"),
        ("It falls on a Tuesday in April", "It falls on a [DATE] in [DATE]"),
        ("In May she may march in March.", "In [DATE] she may march in [DATE]."),
        ("May I? March on! Sunlight, Marble, decide", "May I? March on! Sunlight, Marble, decide"),
    ],
)
def test_a_date_is_one_placeholder(text: str, masked: str, task: Task) -> None:
    assert mask(text, task).text == masked


@pytest.mark.parametrize(
    "text",
    ["born in 1969.", "from 1969 to", "the spring of 1969", "(1969)"],
)
def test_a_bare_year_is_a_date_where_numbers_are_kept(text: str) -> None:
    assert mask(text, SEARCH).text == text.replace("1969", "[DATE]")
    assert mask(text, MATH).text == text.replace("1969", "[NUMBER]")


@pytest.mark.parametrize(
    "text", ["2024 - 05 - 12", "48/2/2024x", "2024-13-12", "1999-2000", "12.05.20241", "5/12"]
)
def test_a_computation_is_no_date(text: str) -> None:
    turn = TraceTurn(kind=TurnKind.THOUGHT, text=text)
    assert not [span.value for span in find_dates(turn, MATH)]


def test_a_date_holds_its_numbers_and_code_has_none() -> None:
    (span,) = mask("12 May 2024", MATH).spans
    assert (span.kind, span.value, span.detector) == (SpanKind.DATE, "12 May 2024", "dates")
    assert mask("12 May 2024", Task(task_id="t", question="?", domain=Domain.CODE)).spans == ()
