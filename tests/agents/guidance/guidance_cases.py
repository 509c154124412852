"""Tasks and trajectories for the tests of planners."""

from collections.abc import Callable, Sequence

from maskgym.agents.guidance.config import Planner, Slot
from maskgym.agents.rollouts.trajectory import Trajectory, Turn
from maskgym.envs import Task, Verdict
from maskgym.masking import ExpertTrace

TRACE = ExpertTrace.from_text("one\ntwo\nthree\n1 + 1 = 2")


def task(task_id: str = "t", *, trace: ExpertTrace | None = TRACE) -> Task:
    """A task, with an expert trace of four lines unless told otherwise."""
    return Task(task_id=task_id, question="1 + 1?", answers=("2",), expert_trace=trace)


def played(
    slot: Slot, is_solved: bool, *, is_shown: bool = True, broken: bool = False
) -> Trajectory:
    """What might come of a slot."""
    turn = Turn(
        prompt_ids=(1,),
        action_ids=(2,),
        logprobs=(0.0,),
        action_text="",
        observation="",
        action="answer",
    )
    verdict = Verdict.CORRECT if is_solved else Verdict.WRONG
    return Trajectory(
        task_id=slot.task.task_id,
        group=slot.group,
        turns=(turn,),
        reward=float(is_solved),
        verdict=Verdict.VERIFIER_ERROR if broken else verdict,
        end_reason="answered",
        scaffold="one [NUMBER]" if slot.scaffold and is_shown else "",
        train_on=slot.train_on,
    )


def play(
    planner: Planner, task: Task, solve: Callable[[Slot], bool], *, is_shown: bool = True
) -> list[Trajectory]:
    """All rounds that a planner asks for."""
    group: list[Trajectory] = []
    round_index = 0
    while slots := planner.plan(task, group, round_index):
        group += [played(slot, solve(slot), is_shown=is_shown) for slot in slots]
        round_index += 1
    return group


def levels(group: Sequence[Trajectory]) -> dict[str, int]:
    """Rollouts by mask policy, in the order of play."""
    counts: dict[str, int] = {}
    for trajectory in group:
        name = trajectory.group.partition("|")[2]
        counts[name] = counts.get(name, 0) + 1
    return counts
