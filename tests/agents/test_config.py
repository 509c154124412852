"""Configurations from JSON objects."""

from dataclasses import asdict

import pytest

from maskgym.agents.config import config_from_dict
from maskgym.agents.trainer import TrainerConfig


def test_a_configuration_survives_the_round_trip() -> None:
    config = TrainerConfig(num_steps=3)
    assert config_from_dict(TrainerConfig, asdict(config)) == config


def test_a_misspelt_key_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ValueError, match=r"rollout\.temprature.*rollout\.temperature"):
        config_from_dict(TrainerConfig, {"rollout": {"temprature": 0.5}})


def test_a_bad_value_is_refused_by_the_configuration_itself() -> None:
    with pytest.raises(ValueError, match="num_steps is 0"):
        config_from_dict(TrainerConfig, {"num_steps": 0})


def test_a_value_in_the_place_of_settings_is_refused() -> None:
    with pytest.raises(ValueError, match="'rollout' is 3; it has settings of its own, such as"):
        config_from_dict(TrainerConfig, {"rollout": 3})
