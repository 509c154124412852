"""In: tasks, a protocol, tools, budgets. Out: `TextEnv`, a Gymnasium environment played in text.

A domain, or an environment of your own, adds `grade`, and `sample_task` where its tasks are made
up.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import gymnasium
import numpy as np
from gymnasium.error import ResetNeeded

from ..masking import Scaffold, policy_by_name
from ..masking.audit import LeakLevel
from ..masking.checks import Checks
from .budget import Budget, EndReason, EpisodeConfig
from .mask_checks import mask_checks
from .protocol import ActionKind, ActionProtocol, ParsedAction, XMLProtocol
from .rewards import PlayedTurn, check_weights, outcome_reward, shaping_reward
from .sandbox import LocalSandbox, Sandbox
from .sandbox.opening import open_sandbox
from .scaffolds import Scaffolds
from .spaces import UnicodeText, replace_surrogates
from .task_source import resolve_tasks
from .tasks import Domain, Task, TaskSource
from .tools import EpisodeTool, PythonSessionTool, PythonTool, Tool, ToolResult
from .transcript import SegmentKind, Transcript
from .verdicts import Grade, Verdict

Observation = dict[str, str]

_OPTIONS = ("task", "scaffold")
_MAX_OBSERVATION_CHARS = 2**31 - 1
_MAX_ERROR_CHARS = 500


class TextEnv(gymnasium.Env[Observation, str]):
    """A task played in several turns of text.

    **Observation**: ``{"text", "scaffold"}``, both strings. At reset the text is the instructions
    and the question; after a turn it is what the tool brought and what the environment has to say.
    The scaffold is empty when the episode is bare.

    **Action**: the model's turn, a string, read by the protocol: a tool call or the answer. A turn
    that is neither gets a notice that says what to write.

    **Reward**: in [0, 1]: 1.0 at the end when the verifier calls the answer correct, else 0.0. A
    penalty for invalid actions and terms of `shaping`, none by default, are added.
    Only the model's own text in the answering turn, outside its think block, is ever scored.

    **Episode end**: terminated when an answer is given; truncated at a limit of `EpisodeConfig`,
    which ``info["end_reason"]`` names (an end on the first turn counts as terminated).
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 1}  # noqa: RUF012
    domain: ClassVar[Domain] = Domain.MATH
    """How rows of a file are read where `tasks` is a path."""

    def __init__(
        self,
        *,
        tasks: TaskSource | str | Path | None = None,
        config: EpisodeConfig | None = None,
        protocol: ActionProtocol | None = None,
        tools: Sequence[Tool | str] = (),
        scaffold: str | Scaffold = "",
        scaffold_max_leak: str | None = None,
        sandbox: Sandbox | str | None = None,
        shaping: Mapping[str, float] | None = None,
        render_mode: str | None = None,
    ) -> None:
        """An environment over `tasks`.

        Args:
            tasks: A sequence of tasks, a file that `load_tasks` reads, or the testbed as text, such
                as "testbed:level=3,split=test,seed=1". None: what the environment brings itself.
            config: Budgets and what the model is told about them.
            protocol: How actions are written; XML tags unless told otherwise.
            tools: What the model may call; "python" names the Python tool that runs each program
                afresh, "python_session" the one that keeps variables during an episode.
            scaffold: What each episode shows unless reset says otherwise: "" for nothing, a mask
                policy by name, or a scaffold made beforehand.
            scaffold_max_leak: The worst leak of a scaffold made here, such as "L2"; what leaks more
                is masked harder, or not shown at all. None for any.
            sandbox: Where code runs, or its name for `open_sandbox`; None for a `LocalSandbox`,
                which demands tier T2 and is made when first needed.
            shaping: Weights of the terms in `REWARD_TERMS`, added to the reward of each turn, such
                as {"format": 0.1}; None for the outcome alone.
            render_mode: None, or "ansi" for the transcript as text.
        """
        if type(self).grade is TextEnv.grade:
            raise TypeError(f"{type(self).__name__} does not say what is right: define grade().")
        if isinstance(scaffold, str) and scaffold:
            policy_by_name(scaffold)  # refuses an unknown name here, not in the first episode
        self.config = config or EpisodeConfig()
        self.protocol = protocol or XMLProtocol()
        self.render_mode = render_mode
        space = gymnasium.spaces.Dict(
            {key: UnicodeText(_MAX_OBSERVATION_CHARS) for key in ("text", "scaffold")}
        )
        self.observation_space = cast("gymnasium.Space[Observation]", space)
        self.action_space = UnicodeText(self.config.max_action_chars)
        self.tasks: TaskSource = (
            self.default_tasks() if tasks is None else resolve_tasks(tasks, self.domain)
        )
        self.transcript = Transcript()
        self._shaping = dict(shaping or {})
        check_weights(self._shaping)
        self._sandbox = open_sandbox(sandbox) if isinstance(sandbox, str) else sandbox
        self._owns_sandbox = sandbox is None or isinstance(sandbox, str)
        self._default_scaffold = scaffold
        max_leak = LeakLevel.from_name(scaffold_max_leak) if scaffold_max_leak else None
        self._scaffolds = Scaffolds(self.make_checks, max_leak)
        self._task: Task | None = None
        self._scaffold: Scaffold | None = None
        self._budget = Budget(config=self.config)
        self._is_over = True
        self._task_index: dict[str, int] | None = None
        self.tools: tuple[Tool, ...] = tuple(
            self.make_tool(tool) if isinstance(tool, str) else tool for tool in tools
        )
        _check_names([tool.name for tool in self.tools])

    # What an environment of your own defines.

    def default_tasks(self) -> TaskSource:
        """The tasks where none are given; none, for an environment that makes them up."""
        return ()

    def sample_task(self) -> Task:
        """The task of the next episode, drawn with `self.np_random` alone."""
        if not self.tasks:
            raise LookupError("There are no tasks: pass tasks=, or define sample_task().")
        return self.tasks[int(self.np_random.integers(len(self.tasks)))]

    def grade(self, task: Task, answer: str) -> Grade | bool:
        """Whether `answer`, never blank, is right; raising means that it could not be told."""
        raise NotImplementedError

    def describe(self, task: Task) -> str:
        """The question as the model reads it."""
        return task.question

    def make_checks(self, task: Task) -> Checks | None:
        """The verifier as masking asks it, to find the answer of `task` in another form.

        By default that of the task's domain. None: masking compares spellings alone.
        """
        return mask_checks(task, self.sandbox if task.domain is Domain.CODE else None)

    def make_tool(self, name: str) -> Tool:
        """The tool called `name`."""
        match name:
            case "python":
                return PythonTool(self.sandbox)
            case "python_session":
                return PythonSessionTool(self.sandbox)
        raise LookupError(
            f'No tool {name!r} here. Use "python" or "python_session", or pass a Tool object.'
        )

    # What Gymnasium calls.

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts an episode.

        Args:
            seed: Restarts the random numbers; None goes on with them.
            options: "task" (a `Task`, a task id, or an index) and "scaffold" ("" for a bare
                episode, a mask policy or its name, or a `Scaffold`).
        """
        super().reset(seed=seed)
        chosen = _checked_options(options)
        self._task = self._find_task(chosen["task"]) if "task" in chosen else self.sample_task()
        self._scaffold = self._scaffolds.make(
            self._task, chosen.get("scaffold", self._default_scaffold)
        )
        for tool in self.tools:
            if isinstance(tool, EpisodeTool):
                tool.begin(self._task)
        self._budget = Budget(config=self.config)
        self._is_over = False
        self.transcript = Transcript()
        instructions = self.config.instructions
        if instructions is None:
            instructions = self.protocol.instructions(self.tools)
            if self.config.max_turns > 1:
                instructions += f"\nYou have {self.config.max_turns} turns."
        shown = self._visible_scaffold()
        parts = [
            (SegmentKind.SYSTEM, instructions),
            (SegmentKind.SCAFFOLD, shown),
            (SegmentKind.QUESTION, replace_surrogates(self.describe(self._task))),
        ]
        if self.config.max_turns == 1 and self.tools:
            parts.append((SegmentKind.NOTICE, self.config.last_turn_notice))
        for kind, text in parts:
            if text:
                self.transcript.append(kind, text, turn=0)
        texts = [text for kind, text in parts if text and kind is not SegmentKind.SCAFFOLD]
        return {"text": "\n\n".join(texts), "scaffold": shown}, self._info()

    def step(self, action: str) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Plays one turn."""
        if self._task is None or self._is_over:
            state = "has not begun" if self._task is None else "is over"
            raise ResetNeeded(f"This episode {state}: call reset() before step().")
        parsed = self._read(action)
        info, budget = self._info(), self._budget
        messages: list[tuple[SegmentKind, str]] = []
        reward, end = 0.0, None
        match parsed.kind:
            case ActionKind.ANSWER:
                grade = self._grade(self._task, parsed.argument)
                reward, end = outcome_reward(grade.verdict), EndReason.ANSWERED
                info |= {"action": "answer", "answer": parsed.argument}
                info |= {"verdict": grade.verdict.value, "verdict_reason": grade.reason}
            case ActionKind.TOOL:
                info["action"] = parsed.tool
                if refusal := budget.refusal:
                    messages.append((SegmentKind.NOTICE, refusal))
                else:
                    messages.append((SegmentKind.TOOL_RESULT, self._use_tool(parsed, info)))
            case ActionKind.INVALID:
                budget.num_invalid_actions += 1
                reward = 0.0 - self.config.invalid_action_penalty  # not -x: that would be -0.0
                info["action"] = "invalid"
                messages.append((SegmentKind.NOTICE, parsed.problem))
        if self._shaping:
            verdict = Verdict(info["verdict"]) if info["verdict"] else None
            turn = PlayedTurn(text=action, kind=parsed.kind, verdict=verdict)
            reward += shaping_reward(turn, self._shaping)
        if end is None:
            budget.num_observation_chars += sum(len(text) for _, text in messages)
            end = budget.end_reason()
        if end is None and budget.num_turns == self.config.max_turns - 1:
            messages.append((SegmentKind.NOTICE, self.config.last_turn_notice))
        texts = []
        for kind, text in messages:
            if text:
                texts.append(text)
                self.transcript.append(kind, text, turn=budget.num_turns)
        self._is_over = end is not None
        # Gymnasium holds that no environment is cut off on its first step.
        is_truncated = end not in (None, EndReason.ANSWERED) and budget.num_turns > 1
        info |= {"end_reason": end.value if end else "", **self._counts()}
        shown = "" if end else self._visible_scaffold()
        if shown:
            self.transcript.append(SegmentKind.SCAFFOLD, shown, turn=budget.num_turns)
        observation = {"text": "\n".join(texts), "scaffold": shown}
        return observation, reward, end is not None and not is_truncated, is_truncated, info

    def render(self) -> str | None:
        """The transcript so far, in render mode "ansi"."""
        return str(self.transcript) if self.render_mode == "ansi" else None

    def close(self) -> None:
        """Ends what the tools keep, and the sandbox that this environment made for itself."""
        for tool in self.tools:
            if isinstance(tool, EpisodeTool):
                tool.close()
        if self._owns_sandbox and self._sandbox is not None:
            self._sandbox.close()

    # What agents and tools may look at.

    @property
    def task(self) -> Task | None:
        """The task of this episode; None before the first reset."""
        return self._task

    @property
    def sandbox(self) -> Sandbox:
        """Where code runs, made when first asked for."""
        if self._sandbox is None:
            self._sandbox = LocalSandbox()
        return self._sandbox

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """Where sampling of a turn can stop."""
        return self.protocol.stop_strings(self.tools)

    def _read(self, action: str) -> ParsedAction:
        if not isinstance(action, str):
            raise TypeError(
                f"An action is the model's turn as a str; found {type(action).__name__}. "
                "Decode token ids before step()."
            )
        limit = self.config.max_action_chars
        text = replace_surrogates(str(action[:limit]))
        self._budget.num_turns += 1
        self.transcript.append(SegmentKind.MODEL, text, turn=self._budget.num_turns)
        if len(action) > limit:
            problem = f"The turn was {len(action)} characters long; write at most {limit}."
            return ParsedAction(kind=ActionKind.INVALID, problem=problem)
        return self.protocol.parse(text, self.tools)

    def _use_tool(self, parsed: ParsedAction, info: dict[str, Any]) -> str:
        """The rendered result of a call, whatever happens in the tool; details go into `info`."""
        self._budget.num_tool_calls += 1
        tool = next(tool for tool in self.tools if tool.name == parsed.tool)
        try:
            result = tool.call(parsed.argument)
        except Exception as error:  # a tool that fails is an observation; the episode goes on
            failure = f"{type(error).__name__}: {error}"
            result = ToolResult(text=f"The {tool.name} tool failed: {failure}", is_error=True)
        text = replace_surrogates(result.text)
        if result.is_error:
            info["tool_error"] = text[:_MAX_ERROR_CHARS]
        info["tool_details"] = result.details
        info["passage_ids"] = tuple(v for name, v in result.details if name == "passage_id")
        return self.protocol.format_tool_result(tool.name, text, self.config.max_observation_chars)

    def _grade(self, task: Task, answer: str) -> Grade:
        if not answer.strip():
            return Grade(verdict=Verdict.WRONG, reason="the answer is empty")
        try:
            grade = self.grade(task, answer)
        except Exception as error:  # not the model's fault, so neither right nor wrong
            reason = f"{type(error).__name__}: {error}"
            return Grade(verdict=Verdict.VERIFIER_ERROR, reason=reason)
        return grade if isinstance(grade, Grade) else Grade.of(bool(grade))

    def _info(self) -> dict[str, Any]:
        """What holds for every turn; the same keys each time, plain values, no clocks."""
        assert self._task is not None
        return {
            "task_id": self._task.task_id,
            "action": "",
            "tool_error": "",
            "tool_details": (),
            "passage_ids": (),
            "end_reason": "",
            "verdict": "",
            "verdict_reason": "",
            "answer": "",
            "has_scaffold": self._scaffold is not None and bool(self._scaffold.text),
            "scaffold_policy": self._scaffold.policy if self._scaffold else "",
            "sandbox_tier": self._sandbox.tier if self._sandbox is not None else "",
            **self._counts(),
        }

    def _counts(self) -> dict[str, int]:
        return {
            "turn": self._budget.num_turns,
            "num_tool_calls": self._budget.num_tool_calls,
            "num_invalid_actions": self._budget.num_invalid_actions,
        }

    def _visible_scaffold(self) -> str:
        """The part of the scaffold that belongs into the observation before the next turn."""
        turn = self._budget.num_turns
        if self._scaffold is None:
            return ""
        if self.config.scaffold_timing == "upfront":
            return replace_surrogates(self._scaffold.text) if turn == 0 else ""
        parts = self._scaffold.turns
        return replace_surrogates(parts[turn]) if turn < len(parts) else ""

    def _find_task(self, key: Any) -> Task:
        if isinstance(key, Task):
            return key
        if isinstance(key, int | np.integer) and not isinstance(key, bool):
            if not 0 <= key < len(self.tasks):
                raise LookupError(f"No task {key}: this environment has {len(self.tasks)} tasks.")
            return self.tasks[int(key)]
        if self._task_index is None:
            self._task_index = {task.task_id: i for i, task in enumerate(self.tasks)}
        if key not in self._task_index:
            near = difflib.get_close_matches(str(key), self._task_index, n=1, cutoff=0.0)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise LookupError(f"No task {key!r} in this environment.{hint}")
        return self.tasks[self._task_index[key]]


def _checked_options(options: Mapping[str, Any] | None) -> Mapping[str, Any]:
    for key in options or {}:
        if key not in _OPTIONS:
            near = difflib.get_close_matches(str(key), _OPTIONS, n=1, cutoff=0.0)[0]
            raise ValueError(
                f"reset has no option {key!r}. Did you mean {near!r}? "
                f"There are: {', '.join(_OPTIONS)}."
            )
    return options or {}


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1 or name in ("answer", "think") or not name.isidentifier():
            raise ValueError(
                f"A tool can not be called {name!r} here; give each tool a word of its own, "
                "other than answer and think."
            )
