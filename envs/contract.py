"""In: an environment, ours or a user's. Out: nothing, or `ContractError` with all it violates.

The points are those of a Gymnasium environment played in text: spaces, seeding, any string as an
action, one end, and no reward for an answer that the model did not give.
"""

from __future__ import annotations

import contextlib
import math
import pickle
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env

from ..masking import mask
from .base import Observation, TextEnv
from .experts import gold_answer
from .reward_integrity import LOSING, play_tricks
from .verdicts import Verdict

_SEED = 20
_MAX_STEPS = 1000

GARBAGE = (
    "",
    " \n\t ",
    "\0\x1b[31m\u202e\r",
    "日本語 é ß 😀 \u0301",
    "lone \ud800 surrogate \udfff",
    "<search>never closed",
    "<answer>never closed",
    "<think><think></think><think>",
    "</answer></search></think>",
    "<serch> misspelt </serch>",
    "<search></search>",
    '<tool_call>{"name": "search", "arguments": </tool_call>',
    "<search>" * 5000 + "</answer>" * 5000,
    "{}[]()\\%s%d{0}$(id)`id`\\boxed{",
)
"""Actions that must never raise; one longer than the action space allows is tried as well."""

# Each point of the contract, and what to do about a violation.
_CHECK_ENV = "gymnasium's check_env passes without a warning"
_ACTIONS = "any string up to a length is an action"
_OBSERVATIONS = 'observations are {"text", "scaffold"}'
_ENCODABLE = "observations are text that can be written as UTF-8"
_SAME = "equal seeds and actions give equal observations, rewards, infos and ends"
_GLOBAL = "the global random state is left alone"
_KEYS = "info has the same keys at every step"
_PLAIN = "infos hold plain values: str, int, float, bool and tuples of them"
_FINITE = "rewards are finite numbers"
_STEPPED = "any string can be stepped"
_GARBAGE_PAID = "garbage is not paid"
_EMPTY_PAID = "an answer that gives up is not paid"
_ENDS = "an episode ends"
_ONE_END = "exactly one of terminated and truncated is set, at the end alone"
_RESET_NEEDED = "step before reset and after the end raises gymnasium's ResetNeeded"
_NOT_TEXT = "an action that is no string is refused"
_PICKLES = "task and transcript travel between processes"
_GOLD_PAID = "the answer that the task itself names is paid"
_CHECKED = "make_checks and grade agree on the task's own answer"
_MASKED = "a scaffold with every span hidden does not give the answer away"
_RAISES = "nothing that a caller may do raises"
_NOT_PAID = "Score nothing but the answer that TextEnv hands to grade(), and only when it is right."

_REMEDIES = {
    _CHECK_ENV: "See gymnasium.farama.org on custom environments; draw with self.np_random only.",
    _ACTIONS: "Use maskgym.envs.UnicodeText as the action space.",
    _OBSERVATIONS: "Leave observation_space to TextEnv; reshape observations in a wrapper.",
    _ENCODABLE: "Pass texts through maskgym.envs.replace_surrogates.",
    _SAME: "Draw with self.np_random only; iterate over no sets; keep clocks, ids of objects and "
    "uuids out of infos and texts.",
    _GLOBAL: "Use self.np_random instead of random.* and numpy.random.*.",
    _KEYS: "Set every key at every step, with an empty value where it does not apply.",
    _PLAIN: "Write records out as strings and tuples.",
    _FINITE: "Return 0.0 where a score cannot be computed, and say so in info.",
    _STEPPED: "Let the protocol parse the turn, and answer what is invalid with a notice.",
    _GARBAGE_PAID: _NOT_PAID,
    _EMPTY_PAID: _NOT_PAID,
    _ENDS: "Leave max_turns to TextEnv.step().",
    _ONE_END: "terminated: the task ended; truncated: a limit did. Never both.",
    _RESET_NEEDED: "Leave step() to TextEnv, or raise gymnasium.error.ResetNeeded yourself.",
    _NOT_TEXT: "Raise TypeError and say that an action is text.",
    _PICKLES: "Keep strings, numbers and tuples in records; no functions, handles or generators.",
    _GOLD_PAID: "Put into Task.answers what grade() accepts, the preferred spelling first.",
    _CHECKED: "Override make_checks() where grade() is your own; return None to compare spellings.",
    _MASKED: "Name every alias in Task.answers, and let make_checks() bring the verifier.",
    _RAISES: "What a model does wrong is an observation that says so.",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Violation:
    """A point that an environment violates."""

    point: str
    """The rule."""
    found: str
    remedy: str


class ContractError(AssertionError):
    """An environment breaks its contract; the message lists each violated point and remedy."""

    def __init__(self, name: str, violations: Sequence[Violation]) -> None:
        self.violations = tuple(violations)
        lines = [f"{name} violates {len(self.violations)} point(s) of the environment contract:"]
        for number, each in enumerate(self.violations, start=1):
            lines += [f"{number}. {each.point}", f"   found:  {each.found}"]
            lines += [f"   remedy: {each.remedy}"]
        super().__init__("\n".join(lines))


def check_environment(env: gymnasium.Env[Any, Any]) -> None:
    """Checks an environment from outside, as any caller sees it; takes a second or so.

    The environment is reset many times; do not check one in the middle of an episode.

    Raises:
        ContractError: If a point is violated; `violations` and the message hold all of them.
        TypeError: If it is no `TextEnv`.
    """
    base = env.unwrapped
    if not isinstance(base, TextEnv):
        raise TypeError(
            f"check_environment is for a TextEnv, found {type(base).__name__}. "
            "Use gymnasium.utils.env_checker.check_env for other environments."
        )
    checker = _Checker(base)
    for check in (
        checker.check_gymnasium,
        checker.check_spaces,
        checker.check_seeding,
        checker.check_garbage,
        checker.check_ends,
        checker.check_records,
        checker.check_payment,
        checker.check_masking,
    ):
        checker.run(check)
    if checker.violations:
        name = base.spec.id if base.spec else type(base).__name__
        raise ContractError(name, checker.violations)


@dataclass(kw_only=True, slots=True)
class _Episode:
    """What reset and then each step returned."""

    observations: list[Observation]
    infos: list[dict[str, Any]]
    rewards: list[float] = field(default_factory=lambda: [0.0])
    ends: list[tuple[bool, bool]] = field(default_factory=lambda: [(False, False)])
    """(terminated, truncated)."""


@dataclass
class _Checker:
    env: TextEnv
    violations: list[Violation] = field(default_factory=list)

    def run(self, check: Callable[[], None]) -> None:
        """Runs a check; an exception on the way is a violation too."""
        try:
            check()
        except Exception as error:
            found = f"{check.__name__}: {type(error).__name__}: {error}"
            self.require(_RAISES, False, found)

    def require(self, point: str, holds: bool, found: str, remedy: str = "") -> None:
        """Notes a violation unless `holds`; a point is noted once."""
        if not holds and all(point != each.point for each in self.violations):
            remedy = remedy or _REMEDIES[point]
            self.violations.append(Violation(point=point, found=found, remedy=remedy))

    # The points.

    def check_gymnasium(self) -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = []
            try:
                check_env(self.env, skip_render_check=self.env.spec is None)
            except Exception as error:
                found.append(f"{type(error).__name__}: {error}")
        found += [str(warning.message) for warning in caught]
        self.require(_CHECK_ENV, not found, "; ".join(found))

    def check_spaces(self) -> None:
        actions, observations = self.env.action_space, self.env.observation_space
        texts = ["", "日本 é 😀", "a\nb", "\ud800"]
        self.require(_ACTIONS, all(text in actions for text in texts), repr(actions))
        is_dict = isinstance(observations, gymnasium.spaces.Dict)
        is_pair = is_dict and set(cast(Any, observations)) == {"text", "scaffold"}
        self.require(_OBSERVATIONS, is_pair, repr(observations))

    def check_seeding(self) -> None:
        actions = [*GARBAGE[3:5], self.env.protocol.format_answer(LOSING)]
        before = (random.getstate(), pickle.dumps(np.random.get_state()))
        first = self._play(actions)
        with self._another() as other:
            self._play(actions, seed=_SEED + 1, env=other)
            second = self._play(actions, env=other)
        for what in ("observations", "rewards", "infos", "ends"):
            one, two = getattr(first, what), getattr(second, what)
            self.require(_SAME, one == two, f"{what} differ: {_difference(one, two)}")
        is_untouched = before == (random.getstate(), pickle.dumps(np.random.get_state()))
        self.require(_GLOBAL, is_untouched, "random or numpy.random changed its state")
        keys = {tuple(info) for info in first.infos}
        self.require(_KEYS, len(keys) == 1, f"{len(keys)} different sets of keys")

    def check_garbage(self) -> None:
        for action in (*GARBAGE, "x" * (self.env.config.max_action_chars + 1)):
            shown = f"{action[:30]!r} ({len(action)} characters)"
            try:
                reward = max(self._play([action]).rewards)
            except Exception as error:
                self.require(_STEPPED, False, f"{shown} raised {type(error).__name__}: {error}")
            else:
                self.require(_GARBAGE_PAID, reward <= 0, f"{shown} got {reward}")

    def check_ends(self) -> None:
        for action in ("no tag at all", self.env.protocol.format_answer(LOSING)):
            ends = self._play([action] * _MAX_STEPS).ends
            self.require(_ENDS, any(ends[-1]), f"{action!r} did not end it in {len(ends)} steps")
            is_single = sum(ends[-1]) == 1 and not any(map(any, ends[:-1]))
            self.require(_ONE_END, is_single, f"(terminated, truncated) was {ends[-3:]}")
            self._must_need_reset(self.env, "after the end")
        with self._another() as other:
            if other is not self.env:
                self._must_need_reset(other, "before the first reset")
        self.env.reset(seed=_SEED)
        with contextlib.suppress(TypeError, ValueError):
            self.env.step(cast(Any, 3))
            self.require(_NOT_TEXT, False, "step(3) was accepted")

    def check_records(self) -> None:
        self._play([LOSING])
        for name, record in (("task", self.env.task), ("transcript", self.env.transcript)):
            try:
                is_equal = pickle.loads(pickle.dumps(record)) == record
            except Exception as error:
                self.require(_PICKLES, False, f"the {name} does not pickle: {error}")
            else:
                self.require(_PICKLES, is_equal, f"the {name} comes back different")

    def check_payment(self) -> None:
        write = self.env.protocol.format_answer
        for action in (write(""), write(LOSING)):
            reward, _ = self._reward(action)
            self.require(_EMPTY_PAID, reward <= 0, f"{action[:80]!r} got {reward}")
        task = self.env.task
        gold = gold_answer(task) if task is not None else ""
        if task is None or not gold:
            return
        reward, verdict = self._reward(write(gold))
        is_paid = verdict == Verdict.CORRECT and reward > 0
        self.require(_GOLD_PAID, is_paid, f"{gold!r} got reward {reward}, verdict {verdict!r}")
        if is_paid:
            for outcome in play_tricks(self.env):
                found = "".join(outcome.paid[:1])
                self.require(f"{outcome.name} is not paid", not found, found, _NOT_PAID)

    def check_masking(self) -> None:
        task = self.env.task
        gold = gold_answer(task) if task is not None else ""
        if task is None or not gold:
            return
        checks = self.env.make_checks(task)
        if checks is not None and checks.equals is not None:
            says = (checks.is_equal(gold, gold), checks.is_equal(LOSING, gold))
            self.require(_CHECKED, says == (True, False), f"equals says {says} of right and wrong")
        if checks is not None and checks.passes is not None:
            says = (checks.is_passing(gold), checks.is_passing(LOSING))
            self.require(_CHECKED, says == (True, False), f"passes says {says} of right and wrong")
        if task.expert_trace is not None:
            audit = mask(task.expert_trace, task, "all", checks=checks).audit
            is_safe = not audit.is_answer_visible and not audit.do_remains_pass
            self.require(_MASKED, is_safe, f"{task.task_id}: {audit.level.label}")

    # How they are checked.

    @contextlib.contextmanager
    def _another(self) -> Iterator[TextEnv]:
        """A second environment of the same kind, where there is a spec to make it from."""
        if self.env.spec is None:
            yield self.env
            return
        wrapped = self.env.spec.make()
        try:
            yield cast(TextEnv, wrapped.unwrapped)
        finally:
            wrapped.close()

    def _play(
        self,
        actions: Sequence[str],
        *,
        seed: int = _SEED,
        env: TextEnv | None = None,
        **options: Any,
    ) -> _Episode:
        """Plays until the actions or the episode end; checks all that is returned."""
        env = env or self.env
        observation, info = env.reset(seed=seed, options=options)
        self._inspect(observation, info, 0.0)
        episode = _Episode(observations=[observation], infos=[info])
        for action in actions:
            observation, reward, terminated, truncated, info = env.step(action)
            self._inspect(observation, info, reward)
            episode.observations.append(observation)
            episode.rewards.append(reward)
            episode.infos.append(info)
            episode.ends.append((terminated, truncated))
            if terminated or truncated:
                break
        return episode

    def _inspect(self, observation: Observation, info: dict[str, Any], reward: float) -> None:
        is_text = observation in self.env.observation_space and _is_encodable(observation)
        self.require(_ENCODABLE, is_text, repr(observation)[:200])
        self.require(_FINITE, math.isfinite(reward), repr(reward))
        odd = [key for key, value in info.items() if not _is_plain(value)]
        self.require(_PLAIN, not odd, f"others under {odd}")

    def _reward(self, action: str) -> tuple[float, str]:
        episode = self._play([action] * _MAX_STEPS)
        return max(episode.rewards), str(episode.infos[-1].get("verdict", ""))

    def _must_need_reset(self, env: TextEnv, when: str) -> None:
        try:
            env.step("<answer> 1 </answer>")
        except ResetNeeded:
            return
        except Exception as error:
            found = f"{when}: {type(error).__name__}: {error}"
        else:
            found = f"{when} it was accepted"
        self.require(_RESET_NEEDED, False, found)


def _is_encodable(observation: Observation) -> bool:
    try:
        return all(isinstance(text.encode(), bytes) for text in observation.values())
    except UnicodeEncodeError:
        return False


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return isinstance(value, str | bool | int | float)


def _difference(one: Sequence[Any], two: Sequence[Any]) -> str:
    for index, (a, b) in enumerate(zip(one, two, strict=False)):
        if a != b:
            return f"step {index}: {a!r:.200} and {b!r:.200}"
    return f"{len(one)} and {len(two)} steps"
