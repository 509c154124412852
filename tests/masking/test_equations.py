import time
from fractions import Fraction

import pytest

from maskgym.envs import Task
from maskgym.masking import ExpertTrace, Span, SpanKind, TraceTurn, TurnKind, find_spans
from maskgym.masking.equation_targets import NumericTarget
from maskgym.masking.equations import Statement, equations_of, find_equations

TASK = Task(task_id="t", question="?", answers=("7",))


def read(text: str) -> list[Statement]:
    trace = ExpertTrace.from_text(text)
    return list(find_equations(trace, find_spans(trace, TASK)))


def sides(text: str) -> list[list[str]]:
    """The sides of each equation, as written; numbers that stand alone are left out."""
    return [
        [text[side.start : side.end] for side in statement.sides]
        for statement in read(text)
        if statement.is_computed or len(statement.sides) > 1
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Step 1: 3+4=7", [["3+4", "7"]]),
        ("2 * 3 + 4 = 6 + 4 = 10.", [["2 * 3 + 4", "6 + 4", "10"]]),
        ("She has 48/2 = <<48/2=24>>24 clips.", [["48/2", "24"]] * 2),
        ("It is $5 * 3 = $15.", [["5 * 3", "15"]]),
        ("$1,200 - $200 = $1,000", [["1,200 - $200", "1,000"]]),
        ("3 apples + 4 apples = 7 apples", [["3 apples + 4", "7"]]),
        ("3 plus 4 is 7", [["3 plus 4", "7"]]),
        ("seven times six equals forty-two", [["seven times six", "forty-two"]]),
        ("half of 12 is 6", [["half of 12", "6"]]),
        ("twice 6 = 12", [["twice 6", "12"]]),
        ("25% of 28 = 7", [["25% of 28", "7"]]),
        ("1/2 of 12 = 6", [["1/2 of 12", "6"]]),
        ("2 x 16 = 32 and 2x + 3 = 7", [["2 x 16", "32"], ["2x + 3", "7"]]),
        ("5 hours * $15/hour = $75", [["5 hours * $15", "75"]]),
        (r"\frac{48}{2} = 24", [[r"\frac{48}{2}", "24"]]),
        (r"$2^{3} \cdot (4 - 1) = 24$", [[r"2^{3} \cdot (4 - 1)", "24"]]),
        (r"6 \times 4 \div 2 = 12", [[r"6 \times 4 \div 2", "12"]]),
        (r"\begin{align} x &= 3 + 4 \\ &= 7 \end{align}", [["x", "3 + 4", "7"]]),
        ("2 \u00d7 3 \u00f7 1 \u2212 4 = 2", [["2 \u00d7 3 \u00f7 1 \u2212 4", "2"]]),
        ("He has 5 boxes, so 3 + 4 = 7", [["3 + 4", "7"]]),
        ("The total of 5 boxes is 5 * 3 = 15", [["5 * 3", "15"]]),
        ("3 x 4 = 12, so 24+12 = 36", [["3 x 4", "12"], ["24+12", "36"]]),
        ("3 + 4\n= 7", [["3 + 4", "7"]]),
        ("3 + 4 =\n7", [["3 + 4", "7"]]),
        ("- 5 + 3 = 8", [["5 + 3", "8"]]),
        ("(3 + 4 = 7)", [["(3 + 4", "7"]]),
        ("so 3 + 4 +, and 5", [["3 + 4"]]),
        ("a 120-page book from 2 to 5", []),
        ("H2O has 3 and x_1 is 2", []),
    ],
)
def test_sides_are_found_where_they_stand(text: str, expected: list[list[str]]) -> None:
    assert sides(text) == expected


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2 + 3 * 4", 14),
        ("2 * (3 + 4)", 14),
        ("2(3 + 4)", 14),
        ("10 - 3 - 4", 3),
        ("2 ^ 3 ^ 2", 512),
        ("2**5", 32),
        ("-3 - -4", 1),
        ("-2^2", -4),
        (r"2\frac{1}{2} + \sqrt{16}", Fraction(13, 2)),
        (r"\frac12 + \tfrac{1}{3}", Fraction(5, 6)),
        (r"\frac{1 + 2}{2 \cdot 3}", Fraction(1, 2)),
        ("20% * 50", 10),
        ("three plus .5", Fraction(7, 2)),
        ("3 + 4 *", 7),
        ("(3 + 4", 7),
        ("((3 + 4) * 2)", 14),
        ("3 + ½", Fraction(7, 2)),
    ],
)
def test_a_side_has_its_exact_value(text: str, value: Fraction | int) -> None:
    (statement,) = read(text)
    assert statement.sides[0].result[0] == value


@pytest.mark.parametrize("text", ["S + 143", r"2 \pi + 3", "3 / 0", "2 + 9^999999"])
def test_a_side_with_an_unknown_has_no_value(text: str) -> None:
    (statement,) = read(text)
    assert statement.sides[0].result == ()


@pytest.mark.parametrize(
    ("text", "results"),
    [
        ("3 + 4 = 7", {7}),
        ("6 = 2 * 3", {6}),
        ("10 / 3 = 3.33", {Fraction(10, 3), Fraction(333, 100)}),
        ("1 hour = 60 minutes", {60}),
        ("x = 5", {5}),
        ("S + 143 = 200 - 16 = 184", {184}),
        (r"1/2 + 1/3 = \frac{5}{6}", {Fraction(5, 6)}),
        ("100% - 25% = 75%", {Fraction(3, 4), 75}),
        ("just 7", set()),
    ],
)
def test_a_statement_produces_what_its_sides_are_worth(
    text: str, results: set[Fraction | int]
) -> None:
    (statement,) = read(text)
    assert statement.results == results


def test_operands_carry_their_offsets_and_turns() -> None:
    turns = ("no numbers", "then 12 + 3 = 15")
    trace = ExpertTrace(turns=tuple(TraceTurn(kind=TurnKind.THOUGHT, text=t) for t in turns))
    (statement,) = find_equations(trace, find_spans(trace, TASK))
    places = [(one.turn, turns[one.turn][one.start : one.end]) for one in statement.operands]
    assert places == [(1, "12"), (1, "3"), (1, "15")]
    assert (statement.turn, statement.start, statement.end) == (1, 5, 16)


def test_code_and_results_of_tools_are_not_read() -> None:
    text = "```\n3 + 4 = 7\n```"
    code = Span(start=3, end=14, kind=SpanKind.CODE, value=text[3:14])
    assert equations_of(text, [code]) == []
    turn = TraceTurn(kind=TurnKind.TOOL_RESULT, text="3 + 4 = 7", tool="python")
    assert find_equations(ExpertTrace(turns=(turn,)), ()) == ()


@pytest.mark.parametrize(
    ("answer", "value", "is_hit"),
    [
        ("7", Fraction(7), True),
        ("-7", Fraction(7), True),
        ("$1,200", Fraction(1200), True),
        (r"\frac{1}{2}", Fraction(1, 2), True),
        ("3.33", Fraction(10, 3), True),
        ("3.33", Fraction(334, 100), False),
        ("3", Fraction(10, 3), False),
        ("75%", Fraction(3, 4), True),
        ("seven", Fraction(7), True),
        ("Yes", Fraction(1), False),
        ("", Fraction(0), False),
    ],
)
def test_a_target_is_hit_by_its_value(answer: str, value: Fraction, is_hit: bool) -> None:
    target = NumericTarget(Task(task_id="t", question="?", answers=(answer,)))
    assert target.is_hit_by([value]) is is_hit
    assert bool(target) is (answer not in ("Yes", ""))


@pytest.mark.parametrize(
    "piece",
    [
        "1+2=3 ",
        "1+",
        "(",
        "(1+",
        "{",
        r"\frac{1",
        "<<1=1",
        "1/3+1/7+",
        "x+y=z\n",
        "2^{",
        "= ",
        "\n",
    ],
)
@pytest.mark.usefixtures("no_garbage_collection")
def test_reading_takes_time_in_proportion_to_the_length(piece: str) -> None:
    def seconds(num_characters: int) -> float:
        start = time.process_time()
        equations_of(piece * (num_characters // len(piece)))
        return time.process_time() - start

    assert seconds(80_000) < 12 * max(seconds(20_000), 0.02)
