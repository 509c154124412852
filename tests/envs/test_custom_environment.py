"""The environment that the README shows: fifteen lines, and it keeps the whole contract."""

import gymnasium

from maskgym.envs import Task, TextEnv, check_environment


class ReverseEnv(TextEnv):
    """Reverses a word: the question names it, the answer is the word reversed, paid 1.0 or 0.0."""

    def sample_task(self) -> Task:
        word = "".join(self.np_random.choice(list("abcdefgh"), size=6))
        return Task(task_id=word, question=f"Reverse {word!r}.", answers=(word[::-1],))

    def grade(self, task: Task, answer: str) -> bool:
        return answer == task.answers[0]


def test_an_environment_in_fifteen_lines_keeps_the_contract() -> None:
    gymnasium.register("readme/Reverse-v0", entry_point=ReverseEnv)  # type: ignore[arg-type]
    env = gymnasium.make("readme/Reverse-v0")
    check_environment(env)


def test_it_is_played_like_any_other() -> None:
    env = ReverseEnv()
    observation, info = env.reset(seed=0)
    assert f"Reverse '{info['task_id']}'." in observation["text"]
    _, reward, terminated, truncated, info = env.step(f"<answer>{info['task_id'][::-1]}</answer>")
    assert (reward, terminated, truncated, info["verdict"]) == (1.0, True, False, "correct")
