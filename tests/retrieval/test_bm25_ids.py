import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskgym.retrieval import Passage, bm25_ids
from maskgym.retrieval.bm25_arrays import MemorySink
from maskgym.retrieval.bm25_ids import find_id, order_of_ids, ranks
from maskgym.retrieval.passage_store import PassageStore, PassageStoreBuilder

IDS = st.lists(
    st.text(st.one_of(st.sampled_from("a1é\x00\ud800\U0001f642"), st.characters()), min_size=1),
    min_size=1,
    max_size=12,
)


def stored(ids: list[str]) -> PassageStore:
    builder = PassageStoreBuilder(MemorySink())
    for name in ids:
        builder.add(Passage(id=name, text="text"))
    return builder.finish()[0]


@given(IDS, st.sampled_from([0, 1 << 28]))
def test_ids_are_ordered_as_python_orders_strings_and_found_again(
    ids: list[str], table_bytes: int
) -> None:
    store = stored(ids)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bm25_ids, "_MAX_TABLE_BYTES", table_bytes)
        if len(set(ids)) < len(ids):
            second = next(n for n, name in enumerate(ids) if name in ids[:n])
            first = ids.index(ids[second])
            with pytest.raises(ValueError, match=f"Passages {first + 1} and {second + 1} have"):
                order_of_ids(store)
            return
        order = order_of_ids(store)
    assert [ids[number] for number in order] == sorted(ids)
    assert [sorted(ids)[rank] for rank in ranks(order)] == ids
    assert [find_id(store, order, name) for name in ids] == list(range(len(ids)))
    assert find_id(store, order, "not among them, surely") == -1
