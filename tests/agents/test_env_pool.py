"""The pool of environments."""

from maskgym.agents.env_pool import EnvPool
from maskgym.envs import ArithmeticChains, MathEnv


class Counted(MathEnv):
    num_closed = 0

    def close(self) -> None:
        Counted.num_closed += 1
        super().close()


def test_an_environment_is_used_by_one_episode_at_a_time_and_then_again() -> None:
    pool = EnvPool(lambda: Counted(tasks=ArithmeticChains(level=1, size=1)))
    first, second = pool.acquire(), pool.acquire()
    assert first is not second
    pool.release(first)
    assert pool.acquire() is first
    pool.close()
    assert Counted.num_closed == 2
