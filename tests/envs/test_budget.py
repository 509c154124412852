from typing import Any

import pytest

from maskgym.envs import Budget, EndReason, EpisodeConfig


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_turns", 0),
        ("max_tool_calls", -1),
        ("max_observation_chars", 10),
        ("max_total_observation_chars", 0),
        ("max_wall_time_s", 0.0),
        ("max_invalid_actions", 0),
        ("max_action_chars", 5),
        ("invalid_action_penalty", -1.0),
        ("invalid_action_penalty", float("nan")),
        ("scaffold_timing", "later"),
    ],
)
def test_a_bad_setting_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        EpisodeConfig(**{field: value})


def test_limits_are_reached_in_a_fixed_order() -> None:
    config = EpisodeConfig(max_turns=3, max_invalid_actions=2, max_total_observation_chars=10)
    assert Budget(config=config, num_turns=2).end_reason() is None
    assert Budget(config=config, num_turns=3).end_reason() is EndReason.MAX_TURNS
    assert Budget(config=config, num_observation_chars=10).end_reason() is None
    assert Budget(config=config, num_observation_chars=11).end_reason() is EndReason.MAX_CHARS
    both = Budget(config=config, num_turns=3, num_invalid_actions=2)
    assert both.end_reason() is EndReason.MAX_INVALID


def test_wall_time_counts_from_the_start() -> None:
    config = EpisodeConfig(max_wall_time_s=60)
    assert not Budget(config=config).is_out_of_time()
    late = Budget(config=config)
    late.started_s -= 61
    assert late.end_reason() is EndReason.WALL_TIME


def test_tools_are_refused_on_the_last_turn_and_when_used_up() -> None:
    config = EpisodeConfig(max_turns=4, max_tool_calls=1)
    assert Budget(config=config, num_turns=1).refusal == ""
    assert "all 1 tool calls" in Budget(config=config, num_turns=2, num_tool_calls=1).refusal
    assert "last turn" in Budget(config=config, num_turns=4).refusal
