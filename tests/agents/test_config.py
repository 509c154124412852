"""Configurations from nested settings."""

from dataclasses import asdict, dataclass, field
from typing import Any

import pytest

from maskgym.agents.config import config_from_dict, merge_settings, set_value
from maskgym.agents.trainer_config import TrainerConfig


def test_a_configuration_survives_the_round_trip() -> None:
    config = TrainerConfig(num_steps=3)
    assert config_from_dict(TrainerConfig, asdict(config)) == config


def test_a_misspelt_key_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ValueError, match=r"rollout\.temprature.*rollout\.temperature"):
        config_from_dict(TrainerConfig, {"rollout": {"temprature": 0.5}})


def test_a_bad_value_is_refused_by_the_configuration_itself() -> None:
    with pytest.raises(ValueError, match="tasks_per_step is 0"):
        config_from_dict(TrainerConfig, {"tasks_per_step": 0})


def test_a_value_in_the_place_of_settings_is_refused() -> None:
    with pytest.raises(ValueError, match="'rollout' is 3; it has settings of its own, such as"):
        config_from_dict(TrainerConfig, {"rollout": 3})


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.5
    names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Outer:
    size: int = 1
    is_on: bool = False
    limit: int | None = 3
    inner: Inner = field(default_factory=Inner)
    maybe: Inner | None = None


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"size": "ten"}, "'size' is 'ten'; it takes a whole number"),
        ({"size": True}, "'size' is True; it takes a whole number"),
        ({"size": 1.5}, "'size' is 1.5; it takes a whole number"),
        ({"is_on": 1}, "'is_on' is 1; it takes true or false"),
        ({"inner": {"rate": "fast"}}, "'inner.rate' is 'fast'; it takes a number"),
        ({"inner": {"names": [1]}}, "'inner.names' is 1; it takes a text"),
        ({"limit": "many"}, "'limit' is 'many'; it takes a whole number"),
        ({"maybe": {"rat": 1.0}}, r"'maybe.rat'\. Did you mean 'maybe.rate'"),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        config_from_dict(Outer, values)


def test_a_word_stands_for_no_value_where_none_is_allowed() -> None:
    assert config_from_dict(Outer, {"limit": "none", "maybe": "none"}) == Outer(limit=None)
    with pytest.raises(ValueError, match="'size' is 'none'"):
        config_from_dict(Outer, {"size": "none"})


def test_a_whole_number_serves_where_a_number_is_wanted() -> None:
    rate = config_from_dict(Outer, {"inner": {"rate": 1}}).inner.rate
    assert rate == 1.0 and isinstance(rate, float)


def test_later_settings_win_key_by_key_and_the_layers_stay_as_they_are() -> None:
    below = {"inner": {"rate": 1.0, "names": ["a"]}, "size": 2}
    above = {"inner": {"rate": 3.0}, "maybe": {"rate": 4.0}}
    merged = merge_settings(below, above)
    assert merged == {
        "inner": {"rate": 3.0, "names": ["a"]},
        "size": 2,
        "maybe": {"rate": 4.0},
    }
    merged["inner"]["rate"] = 9.0
    assert below["inner"] == {"rate": 1.0, "names": ["a"]} and above["inner"] == {"rate": 3.0}


def test_dotted_names_reach_into_settings() -> None:
    values: dict[str, Any] = {"size": 1, "maybe": None}
    for item in ("size=3", "inner.rate=0.25", 'maybe.names=["x"]', "inner.words=plain text"):
        set_value(values, item)
    assert values == {
        "size": 3,
        "inner": {"rate": 0.25, "words": "plain text"},
        "maybe": {"names": ["x"]},
    }
    with pytest.raises(ValueError, match="size is a single value"):
        set_value(values, "size.part=1")
    with pytest.raises(ValueError, match="write it as name=value"):
        set_value(values, "size")
