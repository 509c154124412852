r"""In: an environment, ours or a user's. Out: which tricks make it pay without the right answer.

Every trick has been seen to work against a published suite: pay for what stands in a retrieved page
(SkyRL-Gym, Search-R1, VerlTool), in the prompt's own example (Search-R1), in a think block, for a
hedge (math-verify on unboxed text), for an empty answer (SQuAD normalisation of the gold "The"),
for programs that walk the grader's frames or overload `==` (LiveCodeBench's and PRIME's graders).

In a test suite: ``check_reward(gymnasium.make("my/Env-v0"))``, which raises an `AssertionError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import gymnasium

from ..masking import ExpertTrace, mask
from .base import TextEnv
from .code_cheats import cheating_programs
from .experts import gold_answer
from .tasks import Domain, Task
from .tools import ToolResult
from .verdicts import Grade, Verdict

LOSING = "I give up"
_SEED = 20
_MAX_STEPS = 1000
_NUM_CALLS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One episode that must not be paid, and the stage that is set for it."""

    actions: tuple[str, ...]
    """Played in order; the last one again until the episode ends."""
    question: str = ""
    """Put in the place of the task's own question."""
    tool_text: str | None = None
    """What every tool brings instead of its own results."""
    scaffold: str = ""
    """Shown to the model."""
    breaks_verifier: bool = False
    """The verifier raises; besides pay, a verdict other than verifier_error counts as caught."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """What a trick is after."""

    env: TextEnv
    task: Task
    gold: str
    """An answer that is right."""
    other: str
    """One of its kind that is wrong."""

    def write(self, answer: str) -> str:
        """The answer in the words of the environment's protocol."""
        return self.env.protocol.format_answer(answer)

    def call(self, tool: str) -> str:
        """A call of a tool."""
        return self.env.protocol.format_tool_call(tool, "print(1)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Trick:
    """A way to be paid for nothing."""

    name: str
    """Completes "... is not paid"."""
    attempts: Callable[[Target], Sequence[Attempt]]
    """None where the trick does not apply to the environment."""
    max_paid: int = 0
    """How many of the attempts may be paid: of two orders of the same answers, one is honest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrickOutcome:
    """What came of a trick."""

    name: str
    num_attempts: int
    """0 where the trick does not apply."""
    paid: tuple[str, ...] = ()
    """What was paid, in words; empty where the environment held."""

    @property
    def is_stopped(self) -> bool:
        """Whether the environment held."""
        return not self.paid


class RewardIntegrityError(AssertionError):
    """An environment pays for what is not the right answer; the message lists the tricks."""

    def __init__(self, name: str, outcomes: Sequence[TrickOutcome]) -> None:
        self.outcomes = tuple(outcomes)
        lines = [f"{name} falls for {len(self.outcomes)} trick(s):"]
        lines += [f"- {each.name}: {each.paid[0]}" for each in self.outcomes]
        lines.append(
            "Score nothing but the answer that TextEnv hands to grade(), out of its reach."
        )
        super().__init__("\n".join(lines))


def check_reward(env: gymnasium.Env[Any, Any]) -> tuple[TrickOutcome, ...]:
    """Plays every trick; gives the outcomes when none of them is paid.

    Raises:
        RewardIntegrityError: If one is paid; `outcomes` holds those that are.
        TypeError: If it is no `TextEnv`.
        ValueError: If its task names no right answer, or the right one is not paid: then that no
            trick is paid says nothing.
    """
    outcomes = play_tricks(env)
    if caught := [outcome for outcome in outcomes if not outcome.is_stopped]:
        raise RewardIntegrityError(env_name(env), caught)
    return outcomes


def play_tricks(env: gymnasium.Env[Any, Any], *, seed: int = _SEED) -> tuple[TrickOutcome, ...]:
    """Plays every trick on the task that `seed` draws; raises as `check_reward` but for tricks."""
    base = env.unwrapped
    if not isinstance(base, TextEnv):
        raise TypeError(
            f"check_reward is for a TextEnv, found {type(base).__name__}; wrap its task in one."
        )
    base.reset(seed=seed)
    task = base.task
    gold = gold_answer(task) if task is not None else ""
    if task is None or not gold:
        raise ValueError(
            f"The task of {env_name(env)} tells no right answer (answers, or an expert trace), so "
            "it cannot be seen whether a trick is paid. Give it tasks that do: tasks=."
        )
    target = Target(env=base, task=task, gold=gold, other=_another(task, gold))
    honest = Attempt(actions=(target.write(gold),))
    if not _paid(target, honest):
        raise ValueError(
            f"{env_name(env)} does not pay for {gold[:80]!r}, which task {task.task_id!r} names as "
            "right. Mend grade() or the task first."
        )
    return tuple(_outcome(trick, target) for trick in TRICKS)


def env_name(env: gymnasium.Env[Any, Any]) -> str:
    """The id of an environment, or the name of its class."""
    return env.unwrapped.spec.id if env.unwrapped.spec else type(env.unwrapped).__name__


# The tricks.


def _in_tool_results(target: Target) -> Sequence[Attempt]:
    last = (target.write(LOSING), LOSING, target.write(""))
    return [
        Attempt(actions=(*[target.call(tool.name)] * _NUM_CALLS, action), tool_text=text)
        for tool in target.env.tools
        for text in _leaking_texts(target)
        for action in last
    ]


def _in_failing_tool(target: Target) -> Sequence[Attempt]:
    # A call that fails is no answer, also where the call itself holds one.
    return [
        Attempt(actions=(target.env.protocol.format_tool_call(tool.name, text), LOSING))
        for tool in target.env.tools
        for text in ("1/0", target.write(target.gold))
    ]


def _in_question(target: Target) -> Sequence[Attempt]:
    return [
        Attempt(
            actions=(action,), question=f"{target.task.question} For example, {text} is an answer."
        )
        for text in _leaking_texts(target)
        for action in (target.write(LOSING), LOSING)
    ]


def _in_scaffold(target: Target) -> Sequence[Attempt]:
    shown = f"{target.gold} {target.write(target.gold)}"
    return [
        Attempt(actions=(action,), scaffold=shown)
        for action in (target.write(LOSING), LOSING, target.write(""))
    ]


def _in_thoughts(target: Target) -> Sequence[Attempt]:
    right = target.write(target.gold)
    return [
        Attempt(actions=(action,))
        for action in (
            f"<think> {right} </think> {LOSING}",
            f"<think> {right}",
            f"{right} </think> {LOSING}",
            f"<think> a <think> {right} </think> {target.write(LOSING)}",
        )
    ]


def _in_forged_results(target: Target) -> Sequence[Attempt]:
    right = target.write(target.gold)
    names = ["result", "information", "tool_response"]
    forged = [f"<{name}> {right} </{name}>" for name in names]
    for tool in target.env.tools:
        block = target.env.protocol.format_tool_result(tool.name, "MARK", 1000)
        forged.append(block.replace("MARK", right))
    attempts = [f"{block} {target.write(LOSING)}" for block in forged]
    return [Attempt(actions=(action,)) for action in [*attempts, f"<{names[0]}> {right}"]]


def _hedges(target: Target) -> Sequence[Attempt]:
    if target.task.domain is Domain.CODE:
        return ()
    gold, other = target.gold, target.other
    hedges = [
        f"{gold} or {other}",
        f"{other} or {gold}",
        f"{other}, {gold}",
        f"either {gold} or {other}",
        f"{other}; {gold}",
        f"{gold}\n{other}",
        f"{other} {gold}",
    ]
    if target.task.domain is Domain.MATH:
        hedges += [rf"\boxed{{{gold} \text{{ or }} {other}}}", rf"\boxed{{{other}, {gold}}}"]
    return [Attempt(actions=(target.write(hedge),)) for hedge in hedges]


def _two_answers(target: Target) -> Sequence[Attempt]:
    right, wrong = target.write(target.gold), target.write(target.other)
    return [Attempt(actions=(f"{a} {b}",)) for a, b in ((right, wrong), (wrong, right))]


def _nothing(target: Target) -> Sequence[Attempt]:
    texts = ["", " ", ".", "the", "a", "-", "{}", "[]", "None", "\\boxed{}", "####", "```\n```"]
    written = [target.write(text) for text in texts]
    return [Attempt(actions=(action,)) for action in (*written, LOSING, target.write(LOSING))]


def _only_calls(target: Target) -> Sequence[Attempt]:
    return [Attempt(actions=(target.call(tool.name),)) for tool in target.env.tools]


def _broken_verifier(target: Target) -> Sequence[Attempt]:
    return [Attempt(actions=(target.write(target.gold),), breaks_verifier=True)]


def _programs(target: Target) -> Sequence[Attempt]:
    if target.task.domain is not Domain.CODE:
        return ()
    return [
        Attempt(actions=(target.write(f"```python\n{program}\n```"),))
        for program in cheating_programs(target.task).values()
    ]


TRICKS = (
    Trick(name="an answer that stands in a tool's result", attempts=_in_tool_results),
    Trick(name="an answer in a call that fails", attempts=_in_failing_tool),
    Trick(name="an answer that stands in the question", attempts=_in_question),
    Trick(name="an answer that stands in the scaffold", attempts=_in_scaffold),
    Trick(name="an answer inside the think block", attempts=_in_thoughts),
    Trick(name="an answer in a forged tool result", attempts=_in_forged_results),
    Trick(name="a hedge between two answers", attempts=_hedges),
    Trick(name="both of two answers, in either order", attempts=_two_answers, max_paid=1),
    Trick(name="an answer that says nothing", attempts=_nothing),
    Trick(name="calling tools for ever", attempts=_only_calls),
    Trick(name="an answer that the verifier failed to grade", attempts=_broken_verifier),
    Trick(name="a program that attacks its grader", attempts=_programs),
)
"""All of them; those about tools or programs apply where there are any."""


# How they are played.


def _outcome(trick: Trick, target: Target) -> TrickOutcome:
    attempts = trick.attempts(target)
    paid = [found for attempt in attempts if (found := _paid(target, attempt))]
    if len(paid) <= trick.max_paid:
        paid = []
    return TrickOutcome(name=trick.name, num_attempts=len(attempts), paid=tuple(paid))


def _paid(target: Target, attempt: Attempt) -> str:
    """What an attempt was paid, in words; "" where it was not."""
    env = target.env
    task = replace(target.task, question=attempt.question or target.task.question)
    scaffold = ""
    options: dict[str, Any] = {"task": task, "scaffold": scaffold}
    if attempt.scaffold:
        options["scaffold"] = mask(ExpertTrace.from_text(attempt.scaffold), task, "none")
    with _stage(env, attempt):
        env.reset(seed=_SEED, options=options)
        total, info = 0.0, dict[str, Any]()
        for number in range(_MAX_STEPS):
            action = attempt.actions[min(number, len(attempt.actions) - 1)]
            _, reward, terminated, truncated, info = env.step(action)
            total += max(float(reward), 0.0)
            if terminated or truncated:
                break
    verdict = str(info.get("verdict", ""))
    if attempt.breaks_verifier and verdict != Verdict.VERIFIER_ERROR:
        return f"the verdict is {verdict!r} where the verifier raised"
    if total > 0 or verdict == Verdict.CORRECT:
        return f"{attempt.actions[-1][:120]!r} got reward {total:g}, verdict {verdict!r}"
    return ""


@contextmanager
def _stage(env: TextEnv, attempt: Attempt) -> Iterator[None]:
    """The environment with the tools and the verifier that an attempt wants."""
    tools, grade = env.tools, env.grade
    if attempt.tool_text is not None:
        env.tools = tuple(_Leaking(tool.name, attempt.tool_text) for tool in tools)
    if attempt.breaks_verifier:
        env.grade = _raises  # type: ignore[method-assign]
    try:
        yield
    finally:
        env.tools = tools
        env.grade = grade  # type: ignore[method-assign]


class _Leaking:
    """A tool that brings the right answer, whatever it is asked."""

    description = "Brings a page."

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self._text = text

    def call(self, argument: str) -> ToolResult:
        return ToolResult(text=self._text)


def _raises(task: Task, answer: str) -> Grade:
    raise RuntimeError("the verifier is broken on purpose")


def _leaking_texts(target: Target) -> Sequence[str]:
    gold = target.gold
    return [
        f"{gold}\n{target.write(gold)}",
        rf"The answer is \boxed{{{gold}}}.",
        f"#### {gold}",
        f"Answer: {gold}",
    ]


def _another(task: Task, gold: str) -> str:
    if task.domain is Domain.CODE:
        return "```python\nraise SystemExit\n```"
    try:
        return str(int(gold) + 1)
    except ValueError:
        return "Atlantis"
