import warnings

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import RecordEpisodeStatistics, TimeLimit

from maskgym.envs import ENV_IDS, FlattenScaffold, MathEnv, Task
from maskgym.masking import ExpertTrace

TASK = Task(
    task_id="t",
    question="What is 6 * 7 ?",
    answers=("42",),
    expert_trace=ExpertTrace.from_text("{text} is 6 * 7 = 42"),
)


def test_scaffold_and_text_become_one_string_with_the_scaffold_first() -> None:
    env = FlattenScaffold(MathEnv(tasks=[TASK]), template="<<{scaffold}>> {text} !")
    text, _ = env.reset(options={"scaffold": "none"})
    assert text.startswith("<<{text} is 6 * 7 = 42>> Think")
    assert text.endswith("What is 6 * 7 ? !")
    assert text in env.observation_space
    bare, _ = env.reset()
    assert bare.startswith("Think") and "42" not in bare


def test_a_template_may_put_the_text_first() -> None:
    env = FlattenScaffold(MathEnv(tasks=[TASK]), template="{text}|{scaffold}")
    assert env.reset(options={"scaffold": "none"})[0].endswith("|{text} is 6 * 7 = 42")


def test_a_template_needs_both_places_once() -> None:
    with pytest.raises(ValueError, match=r"must hold \{text\} exactly once"):
        FlattenScaffold(MathEnv(tasks=[TASK]), template="{scaffold}")


def test_a_wrapped_environment_can_be_made_again_from_its_spec() -> None:
    env = FlattenScaffold(gymnasium.make("maskgym/Math-v0", scaffold="all"))
    assert env.spec is not None
    again = env.spec.make()
    assert again.reset(seed=1)[0] == env.reset(seed=1)[0]


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_gymnasium_checks_each_id_without_a_warning(env_id: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make(env_id)
        check_env(env.unwrapped)
        for action in ("", "日本 é 😀", "a\n\nb"):
            env.reset(seed=0)
            env.step(action)
        env.close()


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_time_limit_and_statistics_compose(env_id: str) -> None:
    env = RecordEpisodeStatistics(TimeLimit(gymnasium.make(env_id), max_episode_steps=2))
    env.reset(seed=0)
    assert env.step("what?")[2:4] == (False, False)
    _, _, terminated, truncated, info = env.step("what?")
    assert (terminated, truncated) == (False, True)
    assert (info["episode"]["l"], info["episode"]["r"]) == (2, 0.0)
    env.reset(seed=0)
    _, _, terminated, truncated, info = env.step("<answer> none </answer>")
    assert (terminated, truncated, info["episode"]["l"]) == (True, False, 1)
    env.close()
