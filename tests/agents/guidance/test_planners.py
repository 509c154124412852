"""Planners by rule: who sees which scaffold, and which rollouts are trained on."""

from typing import Any

from maskgym.agents.engines.scripted_engine import ScriptedEngine
from maskgym.agents.guidance.config import PLANNERS, GuidanceConfig, Slot, make_planner
from maskgym.agents.guidance.planners import PLANNER_KINDS
from maskgym.agents.rollouts.chat import Chat
from maskgym.agents.rollouts.env_pool import EnvPool
from maskgym.agents.rollouts.rollout import RolloutConfig, play_groups
from maskgym.envs import EpisodeConfig, MathEnv, Task
from maskgym.masking import ExpertTrace

from .guidance_cases import levels, play, played, task


def never(slot: Slot) -> bool:
    return False


def test_settings_and_planners_name_the_same_kinds() -> None:
    assert tuple(PLANNER_KINDS) == PLANNERS


def test_always_shows_every_rollout_the_scaffold() -> None:
    planner = make_planner(GuidanceConfig(planner="always", policy="all", group_size=4))
    slots = planner.plan(task(), [], 0)
    assert [slot.scaffold for slot in slots] == ["all"] * 4
    assert planner.plan(task(), [], 1) == []


def test_bare_shows_nobody_a_scaffold() -> None:
    group = play(make_planner(GuidanceConfig(planner="bare", group_size=4)), task(), never)
    assert levels(group) == {"": 4}


def test_a_task_without_a_trace_is_played_bare_by_every_planner() -> None:
    for name in PLANNERS:
        policy = "prefix" if name == "adaptive" else "all"
        planner = make_planner(GuidanceConfig(planner=name, policy=policy, group_size=4))
        group = play(planner, task(trace=None), never)
        assert set(levels(group)) == {""}, name
        assert [t.train_on for t in group] == ["guided"] * len(group)


def test_mixed_makes_two_groups_with_a_baseline_each() -> None:
    planner = make_planner(GuidanceConfig(planner="mixed", group_size=4, train_on="bare"))
    slots = planner.plan(task(), [], 0)
    assert [slot.group for slot in slots] == ["t|", "t|", "t|all", "t|all"]
    assert [slot.index for slot in slots] == [0, 1, 2, 3]
    assert [slot.train_on for slot in slots[2:]] == ["bare", "bare"]


def test_rescue_shows_the_scaffold_only_where_the_whole_bare_group_failed() -> None:
    planner = make_planner(GuidanceConfig(planner="rescue", group_size=2, rescue_size=3))
    assert levels(play(planner, task(), never)) == {"": 2, "all": 3}
    assert levels(play(planner, task(), lambda slot: slot.index == 1)) == {"": 2}


def test_rescue_does_not_take_a_broken_verifier_for_failure() -> None:
    planner = make_planner(GuidanceConfig(planner="rescue", group_size=2))
    slots = planner.plan(task(), [], 0)
    group = [played(slots[0], False), played(slots[1], False, broken=True)]
    assert planner.plan(task(), group, 1) == []


def test_escalate_climbs_until_one_succeeds_and_trains_on_the_last_group_alone() -> None:
    ladder = ("prefix(0.25)", "prefix(0.5)", "prefix(0.75)")
    planner = make_planner(GuidanceConfig(planner="escalate", group_size=3, ladder=ladder))
    group = play(planner, task(), lambda slot: "0.5" in slot.scaffold and slot.index == 7)
    assert levels(group) == {"": 3, "prefix(0.25)": 3, "prefix(0.5)": 3}
    assert sorted({t.group for t in planner.trained(group)}) == ["t|prefix(0.5)"]
    assert sum(t.is_correct for t in planner.trained(group)) == 1
    assert levels(play(planner, task(), never)) == {"": 3, **dict.fromkeys(ladder, 3)}
    solved = play(planner, task(), lambda slot: slot.index == 0)
    assert planner.trained(solved) == solved
    assert levels(solved) == {"": 3}


def test_each_rollout_of_a_task_has_an_index_of_its_own() -> None:
    for name in ("rescue", "escalate", "adaptive", "budget"):
        policy = "prefix" if name == "adaptive" else "all"
        planner = make_planner(GuidanceConfig(planner=name, policy=policy, group_size=4))
        indices: list[int] = []

        def solve(slot: Slot, seen: list[int] = indices) -> bool:
            seen.append(slot.index)
            return False

        play(planner, task(), solve)
        assert indices == list(range(len(indices))), name


def test_replace_failed_puts_guided_successes_in_the_place_of_bare_failures() -> None:
    config = GuidanceConfig(planner="rescue", group_size=4, merge="replace_failed", train_on="bare")
    planner = make_planner(config)
    group = play(planner, task(), lambda slot: bool(slot.scaffold) and slot.index in (5, 6))
    kept = planner.trained(group)
    assert [(t.is_guided, t.is_correct) for t in kept] == [
        (False, False),
        (False, False),
        (True, True),
        (True, True),
    ]
    assert kept[:2] == group[2:4]


def test_replace_failed_never_replaces_more_than_failed() -> None:
    config = GuidanceConfig(
        planner="rescue", group_size=2, rescue_size=4, merge="replace_failed", train_on="bare"
    )
    planner = make_planner(config)
    group = play(planner, task(), lambda slot: bool(slot.scaffold))
    assert [t.is_guided for t in planner.trained(group)] == [True] * 4


def test_append_trains_on_every_round() -> None:
    planner = make_planner(GuidanceConfig(planner="rescue", group_size=2))
    group = play(planner, task(), never)
    assert planner.trained(group) == group


def test_nothing_is_trained_on_where_nothing_was_played() -> None:
    for merge in ("append", "replace_group"):
        planner = make_planner(GuidanceConfig(planner="escalate", merge=merge))
        assert planner.trained([]) == []


def test_real_rollouts_climb_the_masked_ladder_until_the_help_is_enough(
    tiny_tokenizer: Any,
) -> None:
    trace = "Ann has 3 pears .\nBen has 4 pears .\nEve adds 3 + 4 = 7 .\nSue says it is 7 ."
    tasks = [
        Task(
            task_id=f"t{i}",
            question=f"word10{i} ?",
            answers=("7",),
            expert_trace=ExpertTrace.from_text(trace),
        )
        for i in range(3)
    ]
    chat = Chat(tiny_tokenizer)
    needed = {"word100": "word100", "word101": "Ben", "word102": "never"}

    def script(prompt_ids: tuple[int, ...]) -> list[int]:
        text = chat.tokenizer.decode(list(prompt_ids))
        name = next(name for name in needed if name in text)
        return chat.action_ids(f"<answer> {7 if needed[name] in text else 8} </answer>")

    envs = EnvPool(lambda: MathEnv(tasks=tasks, config=EpisodeConfig(instructions="")))
    planner = make_planner(GuidanceConfig(planner="escalate", group_size=2, train_on="bare"))
    config = RolloutConfig(num_env_workers=0, max_tokens_per_turn=64)
    groups = play_groups(ScriptedEngine(script), chat, envs, tasks, planner, config)
    ladder = ["masked_prefix(0.25)", "masked_prefix(0.5)", "masked_prefix(0.75)"]
    wanted = [[""], ["", *ladder[:2]], ["", *ladder]]
    assert [list(levels(group)) for group in groups] == wanted
    for group in groups:
        for trajectory in group:
            assert "7" not in trajectory.scaffold
    helped = planner.trained(groups[1])
    assert [t.is_correct for t in helped] == [True, True]
    assert all("Ben has [NUMBER]" in t.scaffold for t in helped)
    assert all("Eve" not in t.scaffold for t in helped)
    # Trained on the prompt that evaluation shows: nothing of the scaffold is left in it.
    assert "Ben" not in chat.tokenizer.decode(helped[0].sequence().ids)
    outcomes = [planner.outcome(*pair) for pair in zip(tasks, groups, strict=True)]
    row = planner.metrics(outcomes)
    assert row["mean_level"] == (0 + 2 + 3) / 3
    assert row["rescued_share"] == 1 / 3
    assert row["flat_rescues"] == 2.0  # one all right, one all wrong: neither has a gradient
    assert row["injected_share"] == 10 / 16
