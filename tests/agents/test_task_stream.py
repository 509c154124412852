"""The order of training tasks: a function of the seed, shared out among ranks, resumable."""

from itertools import islice

import pytest

from maskgym.agents.task_stream import TaskStream
from maskgym.envs import Task
from maskgym.envs.testbed import FictionalWorld

TASKS = list(FictionalWorld(level=1, seed=0)[:10])


def ids(stream: TaskStream, count: int) -> list[str]:
    return [task.task_id for task in islice(stream, count)]


def test_every_epoch_has_all_tasks_once_in_an_order_of_its_own() -> None:
    seen = ids(TaskStream(TASKS, seed=1), 30)
    epochs = [seen[i : i + 10] for i in (0, 10, 20)]
    assert all(sorted(epoch) == sorted(task.task_id for task in TASKS) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_a_stream_goes_on_from_the_place_that_it_is_put_at() -> None:
    whole = ids(TaskStream(TASKS, seed=1), 25)
    resumed = TaskStream(TASKS, seed=1)
    resumed.position = 13
    assert ids(resumed, 12) == whole[13:]


@pytest.mark.parametrize("size", [2, 3, 8])
def test_ranks_share_out_the_order_of_one(size: int) -> None:
    alone = ids(TaskStream(TASKS, seed=2), 5 * size)
    shares = [ids(TaskStream(TASKS, seed=2, rank=rank, size=size), 5) for rank in range(size)]
    assert [shares[place % size][place // size] for place in range(5 * size)] == alone


def test_another_seed_is_another_order() -> None:
    assert ids(TaskStream(TASKS, seed=1), 10) != ids(TaskStream(TASKS, seed=2), 10)


def test_a_huge_set_is_drawn_from_without_a_permutation() -> None:
    class Huge(list[Task]):
        def __len__(self) -> int:
            return 10**9

        def __getitem__(self, index: int) -> Task:  # type: ignore[override]
            return TASKS[index % 10]

    first, again = (TaskStream(Huge(), seed=3) for _ in range(2))
    assert ids(first, 20) == ids(again, 20)
    assert len(set(ids(first, 50))) == 10


def test_no_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match="no task to train on"):
        TaskStream([], seed=0)
