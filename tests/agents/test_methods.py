"""Presets of published methods: their numbers, and that our settings take them."""

from typing import Any

import numpy as np
import pytest

from maskgym.agents import methods
from maskgym.agents.config import config_from_dict
from maskgym.agents.guidance.config import make_planner
from maskgym.agents.learning.advantages import AdvantageConfig, advantages_of
from maskgym.agents.learning.learner import LearnerConfig
from maskgym.agents.methods import method_names, method_settings
from maskgym.agents.trainer_config import TrainerConfig


def guidance(name: str) -> dict[str, Any]:
    section: dict[str, Any] = method_settings(name)["trainer"]["guidance"]
    return section


@pytest.mark.parametrize("name", method_names())
def test_every_setting_of_a_method_is_one_of_ours(name: str) -> None:
    settings = method_settings(name)
    assert set(settings) == {"learner", "trainer"}
    config_from_dict(LearnerConfig, settings["learner"])
    trainer = config_from_dict(TrainerConfig, settings["trainer"])
    make_planner(trainer.guidance)


def test_every_method_is_in_the_table_with_its_source() -> None:
    table = [line for line in (methods.__doc__ or "").splitlines() if line.startswith("| `")]
    named = [part.strip(" `") for line in table for part in line.split("|")[1].split(",")]
    assert sorted(named) == sorted(method_names())
    assert all(any(c.isdigit() for c in line.split("|")[3]) for line in table)


def test_an_unknown_method_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ValueError, match="Did you mean 'dr_grpo'"):
        method_settings("drgrpo")


def test_a_preset_that_is_changed_stays_as_it_was_for_others() -> None:
    method_settings("smepo")["learner"]["loss"]["clip_high"] = 9.0
    guidance("ghpo")["ladder"].append("all")
    assert method_settings("smepo")["learner"]["loss"]["clip_high"] == 5.0
    assert len(guidance("ghpo")["ladder"]) == 3


def test_smepo_has_the_hyper_parameters_of_its_scripts() -> None:
    settings = method_settings("smepo")
    learner = config_from_dict(LearnerConfig, settings["learner"]).over(500)
    loss = learner.loss
    assert (loss.clip_low, loss.clip_high, loss.dual_clip) == (0.0, 5.0, 3.0)
    assert loss.reduction == "sequence"
    assert (loss.kl_coef, loss.entropy_coef) == (0.0, 0.0)
    assert (learner.lr, learner.weight_decay, learner.max_grad_norm) == (1e-6, 0.1, 1.0)
    assert learner.updates_per_batch == 4
    assert learner.lr_at(0) == pytest.approx(1e-6 / 200)  # a tenth of 500 steps of 4 updates
    assert learner.lr_at(199) == learner.lr
    trainer = settings["trainer"]
    assert (trainer["num_steps"], trainer["tasks_per_step"]) == (500, 32)
    assert trainer["rollout"]["temperature"] == 0.8
    assert guidance("smepo") == {
        "planner": "always",
        "policy": "all",
        "train_on": "guided",
        "group_size": 8,
    }


def test_smepos_baselines_differ_from_it_in_the_scaffold_alone() -> None:
    smepo = method_settings("smepo")
    policies = {}
    for name in ("expert_trace", "prefix", "random_mask"):
        settings = method_settings(name)
        policies[name] = settings["trainer"]["guidance"].pop("policy")
        settings["trainer"]["guidance"]["policy"] = "all"
        assert settings == smepo
    assert policies == {
        "expert_trace": "none",
        "prefix": "prefix(0.25)",
        "random_mask": "random_matched",
    }


def test_ghpo_climbs_the_published_ladder_and_its_mix_with_smepo_the_masked_one() -> None:
    assert guidance("ghpo")["ladder"] == ["prefix(0.25)", "prefix(0.5)", "prefix(0.75)"]
    assert all(policy.startswith("masked_prefix") for policy in guidance("ghpo_smepo")["ladder"])
    mixed = method_settings("ghpo_smepo")
    assert mixed["learner"] == method_settings("smepo")["learner"]


def test_luffy_trains_the_expert_row_alone_where_all_rollouts_fail() -> None:
    settings = method_settings("luffy")
    config = config_from_dict(AdvantageConfig, settings["trainer"]["advantages"])
    (advantages,) = advantages_of([np.zeros(7)], config)
    assert advantages.tolist() == [0.0] * 7  # and the expert has 1 - 0: see SupervisedStage.mixed
    assert settings["trainer"]["supervised"]["mix"] == "expert_row"
    assert guidance("luffy")["group_size"] == 7
    assert settings["learner"]["loss"]["off_policy_gamma"] == 0.1


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("psr", [1.0, 0.0, 0.0]), ("nsr", [0.0, -1.0, -1.0]), ("w_reinforce", [0.1, -1.0, -1.0])],
)
def test_signed_methods_weigh_success_and_failure(name: str, wanted: list[float]) -> None:
    config = config_from_dict(AdvantageConfig, method_settings(name)["trainer"]["advantages"])
    (advantages,) = advantages_of([np.array([1.0, 0.0, 0.0])], config)
    assert advantages.tolist() == pytest.approx(wanted)


def test_budgets_of_dars_end_where_its_table_does() -> None:
    assert (guidance("dars")["budget"], guidance("dars")["max_rollouts"]) == ("et", 32)
    assert (guidance("dars_hw")["budget"], guidance("dars_hw")["max_rollouts"]) == ("hw", 64)
