"""Several task sources as one."""

import pytest

from maskgym.envs import Domain, FictionalWorld, SearchEnv, TaskMix, resolve_tasks


def test_sources_are_taken_from_in_turn() -> None:
    first, second = FictionalWorld(level=1, size=3), FictionalWorld(level=2, size=5)
    mix = TaskMix([first, second])
    assert len(mix) == 6
    assert [task.level for task in mix] == [1, 2, 1, 2, 1, 2]
    assert mix[-1] == second[2]
    assert mix[1:3] == [second[0], first[1]]
    with pytest.raises(IndexError, match="outside a mix of 6"):
        mix[6]


def test_testbeds_are_joined_by_a_plus() -> None:
    mix = resolve_tasks("testbed:level=1,size=2+testbed:level=3,size=2", Domain.SEARCH)
    assert [task.level for task in mix] == [1, 3, 1, 3]


def test_a_mix_of_levels_of_one_world_is_played_with_its_pages() -> None:
    env = SearchEnv(tasks="testbed:level=1,size=2+testbed:level=2,size=2")
    _, info = env.reset(options={"task": 1})
    person = env.task.question.split()[-2] if env.task else ""
    _, _, _, _, info = env.step(f"<search> {person} </search>")
    assert info["passage_ids"]


def test_an_empty_mix_is_refused() -> None:
    with pytest.raises(ValueError, match="needs sources"):
        TaskMix([])
