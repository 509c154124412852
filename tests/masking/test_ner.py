import pickle
import random
import sys
from typing import Any

import pytest

from maskgym.envs import Domain, Task
from maskgym.masking import DETECTORS, SpanKind, TraceTurn, TurnKind, mask, register_detector
from maskgym.masking.ner import SpacyEntities

spacy = pytest.importorskip("spacy")
TASK = Task(task_id="t", question="Who?", answers=("x y z",), domain=Domain.SEARCH)


def ruler_pipeline() -> Any:
    nlp = spacy.blank("en")
    ruler = nlp.add_pipe("entity_ruler")
    ruler.add_patterns(
        [
            {"label": "PERSON", "pattern": "Ada Lovelace"},
            {"label": "GPE", "pattern": [{"LOWER": "london"}]},
            {"label": "DATE", "pattern": "1843"},
        ]
    )
    return nlp


def trained_pipeline() -> Any:
    """A real `ner` component, taught a dozen sentences in seconds."""
    people = ("Ada", "Grace", "Alan", "Emmy")
    places = ("Paris", "Lyon", "Berlin")
    texts = [f"{person} lives in {place} ." for person in people for place in places]
    nlp = spacy.blank("en")
    nlp.add_pipe("ner")
    examples = []
    for text in texts:
        person, _, _, place, _ = text.split()
        at = text.index(place)
        labels = [(0, len(person), "PERSON"), (at, at + len(place), "GPE")]
        examples.append(spacy.training.Example.from_dict(nlp.make_doc(text), {"entities": labels}))
    spacy.util.fix_random_seed(0)
    optimizer = nlp.initialize(lambda: examples)
    shuffle = random.Random(0).shuffle
    for _ in range(25):
        shuffle(examples)
        nlp.update(examples, sgd=optimizer)
    return nlp


def values(spans: Any) -> list[str]:
    return [span.value for span in spans]


def test_entities_of_a_pipeline_hide_once_it_is_registered() -> None:
    register_detector("ner", SpacyEntities(ruler_pipeline()))
    try:
        scaffold = mask("Ada Lovelace lived in London.", TASK)
    finally:
        del DETECTORS["ner"]
    assert scaffold.text == "[ENTITY] lived in [ENTITY]."


def test_labels_choose_and_offsets_hold_in_batches() -> None:
    texts = ["\u00c9 London 1843", "", "nothing", "Ada Lovelace in London"] * 5
    found = SpacyEntities(ruler_pipeline(), batch_size=3).find_in_texts(texts)
    assert [values(spans) for spans in found] == [
        ["London"],
        [],
        [],
        ["Ada Lovelace", "London"],
    ] * 5
    for text, spans in zip(texts, found, strict=True):
        assert all(text[span.start : span.end] == span.value for span in spans)
        assert all(span.kind is SpanKind.ENTITY for span in spans)
    dates = SpacyEntities(ruler_pipeline(), labels=["DATE"])
    assert values(dates.find_in_texts(texts)[0]) == ["1843"]


def test_a_trained_component_finds_names_that_stand_on_no_list() -> None:
    detector = SpacyEntities(trained_pipeline(), labels=["PERSON"])
    (spans,) = detector.find_in_texts(["Emmy lives in Lyon ."])
    assert values(spans) == ["Emmy"]
    turn = TraceTurn(kind=TurnKind.THOUGHT, text="Noether lives in Berlin .")
    assert values(detector(turn, TASK)) == ["Noether"]


def test_what_was_found_in_batches_is_not_looked_for_again() -> None:
    pipeline = ruler_pipeline()
    detector = SpacyEntities(pipeline)
    detector.warm(["in London", "in London"])
    pipeline.remove_pipe("entity_ruler")
    assert values(detector(TraceTurn(kind=TurnKind.THOUGHT, text="in London"), TASK)) == ["London"]


def test_a_text_longer_than_the_pipeline_takes_is_read_in_pieces() -> None:
    pipeline = ruler_pipeline()
    pipeline.max_length = 40
    text = "so London is far\n" * 10 + "x" * 90 + " London"
    (spans,) = SpacyEntities(pipeline).find_in_texts([text])
    assert values(spans) == ["London"] * 11
    assert all(text[span.start : span.end] == "London" for span in spans)


def test_a_detector_of_a_named_pipeline_loads_it_on_first_use_and_pickles_by_name(
    tmp_path: Any,
) -> None:
    ruler_pipeline().to_disk(tmp_path / "names")
    detector = SpacyEntities(str(tmp_path / "names"))
    assert values(detector.find_in_texts(["in London"])[0]) == ["London"]
    data = pickle.dumps(detector)
    assert len(data) < 2000
    assert values(pickle.loads(data).find_in_texts(["in London"])[0]) == ["London"]


def test_a_missing_pipeline_or_spacy_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LookupError, match="python -m spacy download en_core_web_none"):
        SpacyEntities("en_core_web_none").find_in_texts(["x"])
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(ImportError, match=r"pip install 'maskgym\[ner\]'"):
        SpacyEntities("en_core_web_sm").find_in_texts(["x"])


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"none of the labels ORG; it has DATE, GPE, PERSON"):
        SpacyEntities(ruler_pipeline(), labels=["ORG"]).find_in_texts(["x"])
    with pytest.raises(ValueError, match="give a list"):
        SpacyEntities(ruler_pipeline(), labels="ORG")
    with pytest.raises(ValueError, match="at least 1"):
        SpacyEntities(ruler_pipeline(), batch_size=0)
