import pickle

import pytest

from maskgym.envs import Domain, Task
from maskgym.masking import (
    DETECTORS,
    ExpertTrace,
    Span,
    SpanKind,
    TraceTurn,
    TurnKind,
    find_spans,
    mask,
    register_detector,
)
from maskgym.masking.entities import ENTITY_DETECTOR, TARGET_DETECTOR, KnownEntities, find_aliases


def task_of(question: str, answers: tuple[str, ...], *entities: str) -> Task:
    return Task(
        task_id="t", question=question, answers=answers, entities=entities, domain=Domain.SEARCH
    )


def spans_of(text: str, task: Task) -> list[Span]:
    return list(find_aliases(TraceTurn(kind=TurnKind.THOUGHT, text=text), task))


def test_answers_and_entities_are_told_apart_and_masked_inside_queries() -> None:
    task = task_of("Where was the mayor of Lyon born?", ("Paris", "Lutetia"), "Ann Lee")
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
    assert "[ENTITY] is the mayor of Lyon in" in scaffold.text
    assert scaffold.turns[1] == "[ENTITY] is [ENTITY].\nanswer: [ANSWER]"
    assert not scaffold.audit.is_answer_visible
    assert not any(name in scaffold.text.casefold() for name in ("paris", "lutetia", "ann", "lee"))
    detectors = {span.value: span.detector for span in find_spans(trace, task)}
    assert detectors["Ann Lee"] == ENTITY_DETECTOR and detectors["Lutetia"] == TARGET_DETECTOR


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


def test_all_mentions_of_one_entity_are_of_one_group() -> None:
    task = task_of("Who?", ("Ada Lovelace", "Countess of Lovelace"), "Charles Babbage", "London")
    spans = spans_of("Lovelace, Ada met C. Babbage. Babbage saw the Countess of Lovelace.", task)
    assert [(span.value, span.group) for span in spans] == [
        ("Lovelace, Ada", 0),
        ("C. Babbage", 1),
        ("Babbage", 1),
        ("Countess of Lovelace", 0),
    ]


def test_an_entity_in_the_question_is_given_in_every_form_but_the_target_is_not() -> None:
    question = "Is Ada Lovelace older than Charles Babbage?"
    task = task_of(question, ("Charles Babbage",), "Ada Lovelace", "Annabella Byron")
    spans = spans_of("Lovelace, Ada; Charles Babbage; Byron", task)
    assert [(span.value, span.is_given) for span in spans] == [
        ("Lovelace, Ada", True),
        ("Charles Babbage", False),
        ("Byron", False),
    ]


def test_numbers_are_left_to_the_detectors_of_numbers_where_those_run() -> None:
    math = Task(task_id="t", question="?", answers=("1,234",), domain=Domain.MATH)
    assert spans_of("1234", math) == []
    assert [span.value for span in spans_of("1234", task_of("?", ("1,234",)))] == ["1234"]


def test_a_task_without_answers_has_no_mentions() -> None:
    assert spans_of("anything", task_of("?", ())) == []
    assert spans_of("anything", task_of("?", ("",))) == []


def test_known_entities_of_a_data_set_are_one_more_detector() -> None:
    register_detector("titles", KnownEntities(["Ada Lovelace", "The Who", "1985"]))
    try:
        text = "Ada Lovelace, who in 1985 heard The Who."
        scaffold = mask(text, task_of("?", ("x y z",)))
    finally:
        del DETECTORS["titles"]
    assert scaffold.text.replace("The ", "the ").startswith("[ENTITY], who in ")
    assert scaffold.text.endswith("[ENTITY].")
    known = pickle.loads(pickle.dumps(KnownEntities(["Ada Lovelace"])))
    turn = TraceTurn(kind=TurnKind.THOUGHT, text="by ada lovelace")
    assert [span.value for span in known(turn, task_of("?", ()))] == ["ada lovelace"]
