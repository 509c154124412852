import pickle

import gymnasium
import numpy as np
import pytest

from maskgym.envs import UnicodeText, replace_surrogates


@pytest.mark.parametrize("text", ["", "日本 é 😀", "a\nb\0", "lone \ud800", "x" * 50])
def test_any_string_up_to_the_length_is_a_member(text: str) -> None:
    assert text in UnicodeText(50)


def test_other_things_are_not_members() -> None:
    assert "x" * 51 not in UnicodeText(50)
    assert "" not in UnicodeText(50, min_length=1)
    assert 3 not in UnicodeText(50)


def test_samples_are_members_and_varied_and_follow_the_seed() -> None:
    space = UnicodeText(40, seed=3)
    samples = [space.sample() for _ in range(200)]
    assert all(sample in space for sample in samples)
    assert any("<search>" in sample for sample in samples)
    assert any(not sample.isascii() for sample in samples)
    space.seed(3)
    assert samples == [space.sample() for _ in range(200)]


def test_a_space_pickles_small_and_equals_its_copy() -> None:
    space = UnicodeText(100_000)
    data = pickle.dumps(space)
    assert len(data) < 10_000
    assert pickle.loads(data) == space
    assert space != UnicodeText(10)


def test_lone_surrogates_are_replaced_and_pairs_joined() -> None:
    assert replace_surrogates("a\ud800b") == "a\ufffdb"
    assert replace_surrogates("\ud83d\ude00") == "😀"
    assert replace_surrogates("日本") == "日本"


def test_shared_memory_is_refused_instead_of_returning_zeros() -> None:
    with pytest.raises(ValueError, match="shared_memory=False"):
        gymnasium.make_vec("maskgym/Math-v0", num_envs=2, vectorization_mode="async")


def test_masked_sampling_still_works_as_for_text() -> None:
    space = UnicodeText(5, seed=0)
    only = np.zeros(len(space.character_set), dtype=np.int8)
    only[space.character_list.index("a")] = 1
    assert space.sample(mask=(3, only)) == "aaa"
