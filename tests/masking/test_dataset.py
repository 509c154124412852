"""A data set of traces: scaffolds in order, the same with any number of workers."""

from collections.abc import Iterator

import pytest

from maskgym.envs import Task
from maskgym.masking import ExpertTrace, RenderConfig, mask
from maskgym.masking.audit import DatasetAudit, LeakLevel
from maskgym.masking.dataset import mask_all

HALVES = (slice(0, 10), slice(10, 20))


def pairs(num_traces: int) -> Iterator[tuple[str, Task]]:
    for number in range(num_traces):
        task = Task(task_id=f"t{number}", question=f"{number} and 4?", answers=(str(number + 4),))
        yield f"Step 1: {number}+4={number + 4}\nSo it is {number + 4}.", task


@pytest.mark.parametrize("num_workers", [1, 2])
def test_scaffolds_come_in_order_as_mask_makes_them(num_workers: int) -> None:
    policy, render = "all_keep_given", RenderConfig(indexed=True)
    scaffolds = list(mask_all(pairs(50), policy, render=render, num_workers=num_workers))
    for scaffold, (trace, task) in zip(scaffolds, pairs(50), strict=True):
        expected = mask(trace, task, policy, render=render)
        assert (scaffold.text, scaffold.spans) == (expected.text, expected.spans)
        assert scaffold.audit == expected.audit


def test_random_masks_depend_on_the_task_and_not_on_the_worker() -> None:
    one, two = (
        [scaffold.text for scaffold in mask_all(pairs(40), "random_matched(3)", num_workers=n)]
        for n in (1, 2)
    )
    assert one == two and len(set(one)) > 20


def test_a_data_set_is_audited_as_it_streams() -> None:
    whole = DatasetAudit.of(mask_all(pairs(20), "none", num_workers=2))
    halves = [DatasetAudit.of(mask_all(list(pairs(20))[part], "none")) for part in HALVES]
    halves[0].merge(halves[1])
    assert whole.num_traces == halves[0].num_traces == 20
    assert whole.num_by_leak == halves[0].num_by_leak
    assert whole.rate(LeakLevel.VISIBLE) == 1.0


def test_an_unknown_policy_is_refused_before_a_trace_is_taken() -> None:
    with pytest.raises(LookupError, match="Did you mean 'all'"):
        mask_all(iter(()), "al")


def test_no_traces_are_no_scaffolds_and_an_empty_trace_is_an_empty_one() -> None:
    assert list(mask_all([])) == []
    task = Task(task_id="t", question="1?", answers=("1",))
    (scaffold,) = mask_all([(ExpertTrace(turns=()), task)])
    assert scaffold.text == "" and scaffold.spans == ()
