from hypothesis import given
from hypothesis import strategies as st

from maskgym.retrieval.transformer_runner import length_batches


def test_batches_have_one_length_each_and_begin_with_the_longest() -> None:
    lengths = [3, 5, 3, 9, 5, 3]
    assert list(length_batches(lengths, 6)) == [[3], [1], [4], [0, 2], [5]]
    assert list(length_batches(lengths, 100)) == [[3], [1, 4], [0, 2, 5]]
    assert list(length_batches([], 100)) == []


@given(st.lists(st.integers(0, 20)), st.integers(1, 40))
def test_each_text_is_in_one_batch_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = list(length_batches(lengths, budget))
    assert sorted(number for batch in batches for number in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len({lengths[number] for number in batch}) == 1
        assert len(batch) == 1 or sum(lengths[number] for number in batch) <= budget
