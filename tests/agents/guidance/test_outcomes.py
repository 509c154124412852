"""What came of a task's rollouts, in counts."""

from dataclasses import replace

from maskgym.agents.guidance.config import Slot
from maskgym.agents.guidance.outcomes import LevelOutcome, outcome_of

from .guidance_cases import played, task


def test_rollouts_are_counted_by_the_scaffold_that_was_ordered() -> None:
    bare = Slot(task=task(), index=0)
    guided = Slot(task=task(), index=1, scaffold="masked_prefix(0.5)")
    group = [
        played(bare, False),
        played(bare, True),
        played(guided, True),
        played(guided, True, is_shown=False),  # it leaked too much
        played(guided, False, broken=True),
    ]
    outcome = outcome_of(task(), group)
    assert outcome.levels == (
        LevelOutcome(scaffold="", num_rollouts=2, num_usable=2, num_solved=1, num_shown=0),
        LevelOutcome(
            scaffold="masked_prefix(0.5)", num_rollouts=3, num_usable=2, num_solved=2, num_shown=2
        ),
    )
    assert (outcome.num_usable, outcome.num_solved) == (4, 3)
    assert [level.accuracy for level in outcome.levels] == [0.5, 1.0]


def test_a_broken_rollout_is_no_success_whatever_its_reward() -> None:
    broken = replace(played(Slot(task=task(), index=0), True), error="the tool died")
    level = outcome_of(task(), [broken]).levels[0]
    assert (level.num_usable, level.num_solved, level.accuracy) == (0, 0, 0.0)


def test_a_task_id_may_hold_the_mark_that_parts_it_from_the_scaffold() -> None:
    odd = task("a|b|")
    slot = Slot(task=odd, index=0, scaffold="all")
    assert [o.scaffold for o in outcome_of(odd, [played(slot, True)]).levels] == ["all"]
