"""In: the configuration of an evaluation. Out: who plays its questions, opened once and closed at the end."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from typing import Any

from maskgym.agents.evaluation.config import EvaluationConfig
from maskgym.agents.play_config import make_engine, make_env, with_stop_strings
from maskgym.agents.rollouts.rollout import RolloutConfig, RolloutInterruptedError
from maskgym.agents.rollouts.trajectory import Trajectory
from maskgym.envs import SearchConfig, Task, TaskSource
from maskgym.envs.shared_retrievers import lease_retriever

OnFinished = Callable[[Trajectory], object]
Player = Callable[[TaskSource, Sequence[Task], OnFinished], None]
"""Plays tasks of a source bare and hands over each episode as it ends; stops early when asked to."""

_CHUNK = 4096  # episodes whose token ids are in memory at once


@contextmanager
def open_player(config: EvaluationConfig, should_stop: Callable[[], bool]) -> Iterator[Player]:
    """The player that the configuration names.

    Raises:
        LookupError: If there is no such policy.
        ConnectionError: If the server of an endpoint cannot be used, or is lost.
    """
    with ExitStack() as stack:
        _hold_index(config, stack)
        if config.policy:
            yield _policy_player(config, should_stop)
        elif config.endpoint:
            yield _endpoint_player(config, should_stop, stack)
        else:
            yield _engine_player(config, should_stop, stack)


def check_player(config: EvaluationConfig) -> None:
    """Raises LookupError for an unknown policy, before anything is written."""
    from maskgym.agents.engines.engine import nearest_name
    from maskgym.agents.policies import POLICIES

    if config.policy and config.policy not in POLICIES:
        nearest = nearest_name(config.policy, POLICIES)
        raise LookupError(f"No policy {config.policy!r}. Did you mean {nearest!r}?")


def _hold_index(config: EvaluationConfig, stack: ExitStack) -> None:
    """Keeps the index open from one benchmark to the next; their environments share it."""
    if config.index:
        search = config.search or SearchConfig()
        stack.callback(lease_retriever(config.index, timeout_s=search.timeout_s).close)


def _policy_player(config: EvaluationConfig, should_stop: Callable[[], bool]) -> Player:
    from maskgym.agents.policies import POLICIES, play

    def play_all(source: TaskSource, tasks: Sequence[Task], on_finished: OnFinished) -> None:
        with closing(make_env(config, source, index=config.index)) as env:
            for task in tasks:
                if should_stop():
                    return
                on_finished(play(env, POLICIES[config.policy](), task))

    return play_all


def _engine_player(
    config: EvaluationConfig, should_stop: Callable[[], bool], stack: ExitStack
) -> Player:
    from maskgym.agents.guidance.config import Slot
    from maskgym.agents.rollouts.chat import Chat, load_tokenizer
    from maskgym.agents.rollouts.env_pool import EnvPool
    from maskgym.agents.rollouts.rollout import rollout

    engine = stack.enter_context(closing(make_engine(config.model, config)))
    chat = Chat(load_tokenizer(config.model), config.chat)

    def play_all(source: TaskSource, tasks: Sequence[Task], on_finished: OnFinished) -> None:
        settings = _rollout_config(config, source)
        if settings.max_episodes is None:  # enough to keep the engine busy while others search
            settings = replace(settings, max_episodes=2 * config.max_num_seqs)
        with closing(EnvPool(lambda: make_env(config, source, index=config.index))) as envs:
            for start in range(0, len(tasks), _CHUNK):
                slots = [Slot(task=task, index=0) for task in tasks[start : start + _CHUNK]]
                try:
                    rollout(
                        engine,
                        chat,
                        envs,
                        slots,
                        settings,
                        seed=config.seed,
                        should_stop=should_stop,
                        on_finished=on_finished,
                    )
                except RolloutInterruptedError:
                    return

    return play_all


def _endpoint_player(
    config: EvaluationConfig, should_stop: Callable[[], bool], stack: ExitStack
) -> Player:
    from maskgym.agents.config import config_from_dict
    from maskgym.agents.endpoint.player import (
        Endpoint,
        EndpointConfig,
        EndpointError,
        play_endpoint,
    )
    from maskgym.agents.rollouts.env_pool import EnvPool

    values = {"system": config.chat.system, **config.endpoint}
    endpoint = Endpoint(config_from_dict(EndpointConfig, values))
    stack.callback(endpoint.close)
    stack.callback(_warn_of_refused_fields, endpoint)

    def play_all(source: TaskSource, tasks: Sequence[Task], on_finished: OnFinished) -> None:
        with closing(EnvPool(lambda: make_env(config, source, index=config.index))) as envs:
            try:
                play_endpoint(
                    endpoint,
                    envs,
                    tasks,
                    _rollout_config(config, source),
                    seed=config.seed,
                    should_stop=should_stop,
                    on_finished=on_finished,
                )
            except RolloutInterruptedError:
                return
            except EndpointError as error:
                raise ConnectionError(
                    f"{error} What was finished is kept; the same command goes on."
                ) from None
            except AssertionError as error:  # an environment shows a scaffold of its own accord
                raise ValueError(str(error)) from None

    return play_all


def _warn_of_refused_fields(endpoint: Any) -> None:
    if refused := endpoint.refused_fields:
        print(
            f"The server refused {', '.join(refused)}, so the requests went without.",
            file=sys.stderr,
        )


def _rollout_config(config: EvaluationConfig, source: TaskSource) -> RolloutConfig:
    with closing(make_env(config, source, index=config.index)) as env:
        return with_stop_strings(config.rollout, env)
