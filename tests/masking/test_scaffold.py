import pickle
from collections.abc import Sequence

import pytest

from maskgym.envs import Domain, Task
from maskgym.masking import ExpertTrace, MaskableTask, RenderConfig, Span, SpanKind, mask

SEARCH = Task(
    task_id="t",
    question="Where was the director of Jaws born?",
    answers=("Cincinnati",),
    entities=("Steven Spielberg",),
    domain=Domain.SEARCH,
)
REACT = (
    "Action 1: Search[Steven Spielberg birthplace]\n"
    "Observation 1: Steven Spielberg was born in Cincinnati.\n"
    "Thought 2: Steven Spielberg is from Cincinnati."
)


def test_of_a_query_the_entity_is_hidden_and_the_whole_query_on_request() -> None:
    shown = mask(REACT, SEARCH).text
    assert shown == (
        "Action 1: Search[[ENTITY] birthplace]\nObservation 1: [DOCUMENT]\n"
        "Thought 2: [ENTITY] is from [ENTITY]."
    )
    whole = mask(REACT, SEARCH, render=RenderConfig(queries="whole")).text
    assert whole.startswith("Action 1: Search[[QUERY]]\nObservation 1: [DOCUMENT]")
    with pytest.raises(ValueError, match="queries is 'half'; it is one of entities, whole"):
        RenderConfig(queries="half")  # type: ignore[arg-type]


def test_a_document_inside_a_text_is_kept_where_results_are() -> None:
    shown = mask(REACT, SEARCH, render=RenderConfig(tool_results="keep")).text
    assert "Observation 1: Steven Spielberg was born in Cincinnati.\n" in shown
    assert shown.endswith("Thought 2: [ENTITY] is from [ENTITY].")


def test_groups_of_different_detectors_are_different_things() -> None:
    def policy(trace: ExpertTrace, spans: Sequence[Span], task: MaskableTask) -> list[Span]:
        first = Span(start=0, end=3, kind=SpanKind.ENTITY, value="Ada", detector="one", group=1)
        return [first, first._replace(start=4, end=7, value="Bob", detector="two")]

    task = Task(task_id="t", question="?")
    config = RenderConfig(indexed=True)
    assert mask("Ada Bob", task, policy, render=config).text == "[ENTITY_1] [ENTITY_2]"


def test_what_is_given_is_told_though_the_policy_did_not_ask() -> None:
    scaffold = mask("3 + 5 = 8", Task(task_id="t", question="What is 5 more than three?"))
    assert [span.is_given for span in scaffold.spans] == [True, True, False]
    assert [span.is_given for span in pickle.loads(pickle.dumps(scaffold)).spans] == [
        *(True, True, False)
    ]
