import pytest

from maskgym.envs import Domain, Task
from maskgym.masking import ExpertTrace, SpanKind, TraceTurn, TurnKind, find_spans, mask
from maskgym.masking.entities import AliasMatcher


def found(text: str, *aliases: str) -> list[str]:
    return [text[m.start : m.end] for m in AliasMatcher(aliases).find(text)]


@pytest.mark.parametrize(
    ("alias", "text", "values"),
    [
        ("\u00c9lodie Durand", "ELODIE  durand's town", ["ELODIE  durand"]),
        ("Elodie", "E\u0301lodie", ["E\u0301lodie"]),
        ("Saint-\u00c9tienne", "in Saint Etienne", ["Saint Etienne"]),
        ("The Beatles", "Beatles fans of the Beatles", ["Beatles", "Beatles"]),
        ("New York", "New\nYork, _New York_", ["New\nYork", "New York"]),
        ("Paris", "Parisian comparison", []),
        ("km", "5km", ["km"]),
        ("1,234", "1234 or 11,234", ["1234"]),
        ("72", "172 or 7.2 or $72.00", ["72.00"]),
        ("-5", "x = -5", ["5"]),
        (r"\frac{1}{2}", r"1/2 = \frac{1}{2}, 11/2", ["1/2", r"\frac{1}{2}"]),
        ("x - 1", "x-1, x+1, 2x-1, ax-1", ["x-1", "x-1"]),
        ("J. K. Rowling", "by J.K. Rowling", ["J.K. Rowling"]),
        (r"$\text{Yes}$", "yes, eyes", ["yes"]),
        ("\u5317\u4eac", "\u5728\u5317\u4eac\u5e02", ["\u5317\u4eac"]),
        ("B", "A B (B) b, the answer is B", ["B", "B"]),
        ("A", "A man. Option A is right", ["A"]),
        ("", "anything", []),
        ("  ", "any thing", []),
    ],
)
def test_mentions_of_an_alias(alias: str, text: str, values: list[str]) -> None:
    assert sorted(found(text, alias)) == sorted(values)


def test_the_longest_alias_is_found_and_overlaps_are_not_lost() -> None:
    values = found("New York City Hall", "New York", "New York City", "City Hall")
    assert values == ["New York City", "City Hall"]


def test_answers_and_entities_are_told_apart_and_masked_inside_queries() -> None:
    task = Task(
        task_id="t",
        question="Where was the mayor of Lyon born?",
        answers=("Paris", "Lutetia"),
        entities=("Ann Lee",),
        domain=Domain.SEARCH,
    )
    trace = ExpertTrace(
        turns=(
            TraceTurn(kind=TurnKind.THOUGHT, text="Ann Lee is the mayor of Lyon in 2001."),
            TraceTurn(kind=TurnKind.TOOL_CALL, tool="search", text="ann lee birthplace"),
            TraceTurn(kind=TurnKind.TOOL_RESULT, tool="search", text="Ann Lee was born in Paris"),
            TraceTurn(kind=TurnKind.THOUGHT, text="Lutetia is Paris."),
            TraceTurn(kind=TurnKind.ANSWER, text="Paris"),
        )
    )
    scaffold = mask(trace, task)
    assert scaffold.turns == (
        "[ENTITY] is the mayor of Lyon in 2001.\nsearch: [ENTITY] birthplace",
        "[ENTITY] is [ENTITY].\nanswer: [ANSWER]",
    )
    assert not scaffold.audit.is_answer_visible
    detectors = {span.value: span.detector for span in find_spans(trace, task)}
    assert detectors["Ann Lee"] == "entities" and detectors["Lutetia"] == "answers"


@pytest.mark.parametrize(
    ("domain", "answer", "kind"),
    [
        (Domain.MATH, "42", SpanKind.NUMBER),
        (Domain.MATH, "blue", SpanKind.ANSWER),
        (Domain.SEARCH, "blue", SpanKind.ENTITY),
        (Domain.SEARCH, "Yes", SpanKind.ANSWER),
        (Domain.SEARCH, "B", SpanKind.CHOICE),
    ],
)
def test_a_mention_of_the_target_hides_as_the_kind_of_value_it_is(
    domain: Domain, answer: str, kind: SpanKind
) -> None:
    task = Task(task_id="t", question="?", answers=(answer,), domain=domain)
    spans = find_spans(ExpertTrace.from_text(f"So it is {answer}"), task)
    assert {span.kind for span in spans} == {kind}
