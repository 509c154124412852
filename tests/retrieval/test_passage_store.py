from hypothesis import given
from hypothesis import strategies as st

from maskgym.retrieval import Passage
from maskgym.retrieval.bm25_arrays import MemorySink
from maskgym.retrieval.passage_store import PassageStore, PassageStoreBuilder, digest_sum

TEXT = st.text(st.characters(), max_size=20)
PASSAGES = st.lists(st.builds(Passage, id=st.text(min_size=1), title=TEXT, text=TEXT), max_size=6)


def stored(passages: list[Passage]) -> tuple[PassageStore, int]:
    builder = PassageStoreBuilder(MemorySink())
    for passage in passages:
        builder.add(passage)
    assert len(builder) == len(passages)
    return builder.finish()


@given(PASSAGES)
def test_passages_come_back_as_they_went_in(passages: list[Passage]) -> None:
    store, _ = stored(passages)
    assert len(store) == len(passages)
    assert [store[number] for number in range(len(store))] == passages
    assert [store.id_at(number) for number in range(len(store))] == [p.id for p in passages]


def test_lone_surrogates_are_kept() -> None:
    passage = Passage(id="\ud800", title="\udfff", text="a\ud83db")
    assert stored([passage])[0][0] == passage


@given(PASSAGES, PASSAGES)
def test_digests_add_up_in_any_order_and_tell_passages_apart(
    some: list[Passage], others: list[Passage]
) -> None:
    together = stored(some + others)[1]
    assert together == stored(others + some)[1] == digest_sum(stored(some)[1], stored(others)[1])
    assert digest_sum(together, -stored(others)[1]) == stored(some)[1]
    counted = [sorted((p.id, p.title, p.text) for p in part) for part in (some, others)]
    assert (stored(some)[1] == stored(others)[1]) == (counted[0] == counted[1])


def test_a_letter_moved_to_the_next_field_is_another_passage() -> None:
    fields = [("ab", "c", "d"), ("a", "bc", "d"), ("a", "b", "cd"), ("abc", "", "d")]
    digests = {stored([Passage(id=i, title=t, text=x)])[1] for i, t, x in fields}
    assert len(digests) == len(fields)
