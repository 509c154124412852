"""The workload of the training benchmarks: episodes whose lengths are written down beforehand.

A random model says nothing of sense and would end its turns anywhere. Here a seeded table says how many
turns an episode has and how many tokens each of them; the environment asks for them with a token of its
own (`<n17>`: 17 tokens), and whoever samples, ours or a rival, obeys. Both sides then generate and train
on the same number of tokens, in episodes that have left the barrier at different times.

The shape is that of `vllm.md` section 4: 64 episodes of 2 to 6 turns of 4 to 32 tokens, tools of 5 ms.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskgym.agents.engines.engine import Completion, Engine
from maskgym.agents.engines.scripted_lengths import ScriptedLengths
from maskgym.envs import EpisodeConfig, Grade, Task, TextEnv, ToolResult
from maskgym.envs.protocol import ActionKind, ParsedAction, XMLProtocol
from maskgym.envs.tools import Tool

if TYPE_CHECKING:
    pass

TOOL = "look"


@dataclass(frozen=True, kw_only=True)
class Workload:
    """How many episodes of which lengths; everything else follows from the seed."""

    num_tasks: int = 8
    """Tasks of a step."""
    group_size: int = 8
    """Episodes of a task."""
    min_turns: int = 2
    max_turns: int = 6
    """Bounds of the turns of an episode, both drawn."""
    min_tokens: int = 4
    max_tokens: int = 32
    """Bounds of the sampled tokens of a turn, both drawn."""
    prompt_words: int = 50
    """Words of a question; with the chat format about ten tokens more."""
    observation_words: int = 6
    """Words that a tool brings; with the chat format about ten tokens more."""
    tool_s: float = 0.005
    """Seconds that a tool call takes."""
    max_tool_s: float | None = None
    """Where given, each call takes a time drawn between `tool_s` and this."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.min_turns <= self.max_turns or not 1 <= self.min_tokens <= self.max_tokens:
            raise ValueError(
                f"{self.min_turns} to {self.max_turns} turns of {self.min_tokens} to "
                f"{self.max_tokens} tokens: the first is at least 1 and no more than the second."
            )

    @property
    def num_episodes(self) -> int:
        """Episodes of a step."""
        return self.num_tasks * self.group_size

    def tasks(self) -> list[Task]:
        """The tasks of a step, the same each time."""
        rng = random.Random(f"{self.seed}|words")
        return [
            Task(
                task_id=f"task-{i}",
                question=" ".join(f"word{rng.randrange(1000)}" for _ in range(self.prompt_words)),
                answers=("yes",),
            )
            for i in range(self.num_tasks)
        ]

    def scripts(self) -> dict[str, list[Script]]:
        """Task id -> the scripts of its group.

        The members share the length of their first turn, since they share their prompt, which asks for it.
        """
        rng = random.Random(self.seed)
        scripts: dict[str, list[Script]] = {}
        for task in self.tasks():
            first = rng.randint(self.min_tokens, self.max_tokens)
            scripts[task.task_id] = [
                Script(
                    lengths=(
                        first,
                        *(
                            rng.randint(self.min_tokens, self.max_tokens)
                            for _ in range(rng.randint(self.min_turns, self.max_turns) - 1)
                        ),
                    ),
                    # Half of a group earns something, so that no group is flat.
                    is_right=member % 2 == 0,
                )
                for member in range(self.group_size)
            ]
        return scripts

    @property
    def max_sequence_tokens(self) -> int:
        """Most tokens of an episode, prompt and all, with 16 for the chat format of each message."""
        longest = max(
            sum(s.lengths) + (len(s.lengths) - 1) * (self.observation_words + 16)
            for group in self.scripts().values()
            for s in group
        )
        return self.prompt_words + 16 + longest

    @property
    def num_action_tokens(self) -> int:
        """Sampled tokens of a step, all episodes together."""
        return sum(sum(s.lengths) for group in self.scripts().values() for s in group)


@dataclass(frozen=True, kw_only=True, slots=True)
class Script:
    """What one episode will be."""

    lengths: tuple[int, ...]
    """Sampled tokens of each turn; the last one is the answer."""
    is_right: bool
    """Whether the answer earns the reward."""


class Casting:
    """Hands the scripts of a task out, one an episode, over and over; environments share it."""

    def __init__(self, workload: Workload) -> None:
        self._scripts = workload.scripts()
        self._num_played: Counter[str] = Counter()
        self._lock = threading.Lock()

    def next_script(self, task_id: str) -> Script:
        """The script of the next episode of a task."""
        with self._lock:
            number = self._num_played[task_id]
            self._num_played[task_id] += 1
        group = self._scripts[task_id]
        return group[number % len(group)]

    def first_length(self, task_id: str) -> int:
        """Tokens of the first turn of a task's episodes."""
        return self._scripts[task_id][0].lengths[0]


class ScriptedEnv(TextEnv):
    """Episodes of written lengths, whatever the model says.

    **Observation**: the question, or what the tool brought; it ends with the number of tokens wanted.

    **Action**: any text: a tool call, and the last one of the script the answer.

    **Reward**: 1.0 at the end where the script says so, else 0.0.

    **Episode end**: terminated after the script's last turn.
    """

    def __init__(self, workload: Workload, casting: Casting) -> None:
        super().__init__(
            tasks=workload.tasks(),
            config=EpisodeConfig(
                max_turns=workload.max_turns + 1, instructions="", last_turn_notice=""
            ),
            protocol=_AnythingGoes(self),
            tools=(_SlowTool(workload, self),),
        )
        self.casting = casting
        self.script = Script(lengths=(1,), is_right=False)
        self.num_acted = 0

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, str], dict[str, Any]]:
        """Starts an episode and takes the next script of its task."""
        result = super().reset(seed=seed, options=options)
        assert self.task is not None
        self.script, self.num_acted = self.casting.next_script(self.task.task_id), 0
        return result

    def describe(self, task: Task) -> str:
        """The question, and how many tokens are wanted."""
        return f"{task.question} {length_word(self.casting.first_length(task.task_id))}"

    def grade(self, task: Task, answer: str) -> Grade | bool:
        """What the script says."""
        return self.script.is_right

    def read_turn(self) -> ParsedAction:
        """Counts a turn: a tool call, or at the script's end the answer."""
        self.num_acted += 1
        if self.num_acted == len(self.script.lengths):
            return ParsedAction(kind=ActionKind.ANSWER, argument="answer")
        return ParsedAction(kind=ActionKind.TOOL, tool=TOOL, argument="look")

    @property
    def next_length(self) -> int:
        """Tokens wanted of the next turn."""
        return self.script.lengths[self.num_acted]


class _AnythingGoes(XMLProtocol):
    """Reads nothing: the script knows what a turn is."""

    def __init__(self, env: ScriptedEnv) -> None:
        super().__init__()
        object.__setattr__(self, "_env", env)

    def parse(self, text: str, tools: Sequence[Tool]) -> ParsedAction:
        """What the script has next."""
        env: ScriptedEnv = self._env  # type: ignore[attr-defined]
        return env.read_turn()

    def format_tool_result(self, tool: str, text: str, max_chars: int) -> str:
        """The result as it is: the tokens of a tag would be no tokens of the workload."""
        return text


class _SlowTool:
    """Takes its time and brings some words."""

    name = TOOL
    description = "Takes some time."

    def __init__(self, workload: Workload, env: ScriptedEnv) -> None:
        self._workload = workload
        self._env = env
        self._rng = random.Random(workload.seed)

    def call(self, argument: str) -> ToolResult:
        """Words, and how many tokens are wanted next."""
        work, env = self._workload, self._env
        high = work.max_tool_s
        time.sleep(work.tool_s if high is None else self._rng.uniform(work.tool_s, high))
        words = [
            f"word{1000 + (7 * i + env.num_acted) % 500}" for i in range(work.observation_words)
        ]
        return ToolResult(text=f"{' '.join(words)} {length_word(env.next_length)}")


def length_word(num_tokens: int) -> str:
    """The token that asks for so many tokens."""
    return f"<n{num_tokens}>"


class AskedLengths(ScriptedLengths):
    """An `Engine` that gives each prompt as many tokens as its last length token asks for."""

    def __init__(self, engine: Engine, tokenizer: Any, workload: Workload) -> None:
        self.engine = engine
        self.lengths = length_ids(tokenizer, workload)
        super().__init__(engine, lambda request: wanted_length(request.prompt_ids, self.lengths))
        self.num_sampled = 0

    def poll(self) -> list[Completion]:
        """What finished, counted."""
        finished = super().poll()
        self.num_sampled += sum(len(completion.token_ids) for completion in finished)
        return finished


def length_ids(tokenizer: Any, workload: Workload) -> dict[int, int]:
    """Token id -> the length that it asks for.

    Raises:
        ValueError: If the tokenizer does not have a token of its own for each length.
    """
    ids: dict[int, int] = {}
    for length in range(workload.min_tokens, workload.max_tokens + 1):
        encoded = tokenizer.encode(length_word(length), add_special_tokens=False)
        if len(encoded) != 1:
            raise ValueError(
                f"{length_word(length)!r} is {len(encoded)} tokens; make the tokenizer with "
                "extra_tokens for every length (`make_model` does)."
            )
        ids[encoded[0]] = length
    return ids


def wanted_length(prompt_ids: Sequence[int], lengths: Mapping[int, int]) -> int:
    """What the last length token of a prompt asks for; it stands in the last observation.

    Raises:
        ValueError: If there is none.
    """
    for token in reversed(prompt_ids):
        if token in lengths:
            return lengths[token]
    raise ValueError("The prompt asks for no length; it does not come from a ScriptedEnv.")


def make_model(folder: Path, workload: Workload) -> Path:
    """A random Qwen3 of a million weights with a token for every length: 4 layers of 128, 2048 tokens."""
    from maskgym.agents.tiny_model import TinyModelConfig, make_tiny_model

    config = TinyModelConfig(
        hidden_size=128,
        intermediate_size=384,
        num_layers=4,
        num_heads=4,
        num_kv_heads=2,
        head_dim=32,
        vocab_size=2048,
        initializer_range=0.08,
        extra_tokens=tuple(
            length_word(i) for i in range(workload.min_tokens, workload.max_tokens + 1)
        ),
    )
    words = " ".join(f"word{i}" for i in range(1700))
    return make_tiny_model(folder, [f"{words} user assistant"], config=config)
