from hypothesis import given
from hypothesis import strategies as st

from maskgym.retrieval import Passage
from maskgym.retrieval.passage_store import PassageStoreBuilder

TEXT = st.text(st.characters(), max_size=20)
PASSAGES = st.lists(st.builds(Passage, id=st.text(min_size=1), title=TEXT, text=TEXT), max_size=6)


@given(PASSAGES)
def test_passages_come_back_as_they_went_in(passages: list[Passage]) -> None:
    builder = PassageStoreBuilder()
    for passage in passages:
        builder.add(passage)
    store = builder.finish()
    assert len(store) == len(passages)
    assert [store[number] for number in range(len(store))] == passages


def test_lone_surrogates_are_kept() -> None:
    builder = PassageStoreBuilder()
    passage = Passage(id="\ud800", title="\udfff", text="a\ud83db")
    builder.add(passage)
    assert builder.finish()[0] == passage
