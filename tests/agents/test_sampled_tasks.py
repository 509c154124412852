"""Tasks that an environment makes up itself."""

import pytest

from maskgym.agents.sampled_tasks import SampledTasks, sampled_tasks
from maskgym.envs import Task, TextEnv


class ReverseEnv(TextEnv):
    def sample_task(self) -> Task:
        word = "".join(self.np_random.choice(list("abcdefgh"), size=8))
        return Task(task_id=word, question=f"Reverse {word!r}.", answers=(word[::-1],))

    def grade(self, task: Task, answer: str) -> bool:
        return answer == task.answers[0]


def test_a_task_is_a_function_of_its_place() -> None:
    tasks = SampledTasks(ReverseEnv(), size=50)
    first = [task.task_id for task in tasks]
    assert len(first) == 50 and len(set(first)) == 50
    assert [tasks[i].task_id for i in (49, 0, 7)] == [first[49], first[0], first[7]]
    assert [task.task_id for task in tasks[2:5]] == first[2:5]
    assert tasks[-1].task_id == first[-1]


def test_splits_and_seeds_differ() -> None:
    env = ReverseEnv()
    ids = [
        {task.task_id for task in sampled_tasks(spec, env)}
        for spec in ("env:size=20", "env:size=20,split=test", "env:size=20,seed=1")
    ]
    assert not ids[0] & ids[1] and not ids[0] & ids[2]


def test_bad_settings_say_how_to_write_them() -> None:
    for spec, said in (
        ("env:siz=3", "write it like 'env:size=1000"),
        ("env:size=many", "needs a whole number"),
        ("env:size=0", "give at least 1 task"),
    ):
        with pytest.raises(ValueError, match=said):
            sampled_tasks(spec, ReverseEnv())


def test_the_end_is_an_end() -> None:
    with pytest.raises(IndexError):
        SampledTasks(ReverseEnv(), size=2)[2]
