"""The record of one episode: what was shown, what was sampled, what it earned.

Ids, loss mask and log-probabilities are one flat sequence each; every other number derives from them.
"""

# P: prompt tokens, A: action tokens, T: all tokens of the episode

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ...envs import Task, Verdict


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """One action and what came before it."""

    prompt_ids: tuple[int, ...]
    """[P] tokens new to the context: the opening prompt, or the observation; the whole context where
    `is_new_context`. Never trained on."""

    action_ids: tuple[int, ...]
    """[A] tokens as sampled, end-of-turn or stop string included."""

    logprobs: tuple[float, ...]
    """[A] natural log, under the weights and the temperature that sampled."""

    action_text: str
    observation: str
    """What the environment answered; empty after the last action."""

    action: str
    """What the environment took the action for: a tool's name, "answer" or "invalid"."""

    tool_error: str = ""
    finish_reason: str = "stop"
    weight_version: int = 0
    passage_ids: tuple[str, ...] = ()
    """Passages that the search of this turn brought, best first."""

    num_tokens: int | None = None
    """Sampled tokens as an endpoint counts them, where their ids are not known."""

    is_new_context: bool = False
    """Whether the chat format rewrote history before this turn (dropped think blocks): it was then
    sampled after `prompt_ids` alone, and another training sequence begins here."""

    bare_prompt_ids: tuple[int, ...] | None = None
    """`prompt_ids` as they would be without the scaffold; None where they show none. Of the opening
    turn the trajectory's `bare_prompt_ids` say it."""

    def __post_init__(self) -> None:
        if len(self.action_ids) != len(self.logprobs):
            raise ValueError(
                f"{len(self.action_ids)} action tokens but {len(self.logprobs)} log-probabilities."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Trajectory:
    """One episode of one task, guided or bare."""

    task_id: str
    group: str
    """Trajectories with the same group share a baseline: task and scaffold level."""

    turns: tuple[Turn, ...]
    reward: float
    verdict: Verdict | None
    end_reason: str
    """The environment's reason, or the rollout's: context (no room left for another action),
    deadline, aborted (by the caller), env_error, engine_error."""

    answer: str = ""
    scaffold: str = ""
    """The scaffold text that was shown; empty when bare."""

    scaffold_policy: str = ""
    bare_prompt_ids: tuple[int, ...] = ()
    """The opening prompt without the scaffold, for losses conditioned on the bare prompt."""

    question: str = ""
    gold: tuple[str, ...] = ()
    train_on: str = "guided"
    """Which prompt the loss conditions on: "guided" (the one shown) or "bare"."""

    error: str = ""
    passage_ids: tuple[str, ...] = ()
    """Passages that the search tool showed, in order."""

    sandbox_tier: str = ""
    """What protected the machine where code was run, "T0" to "T3"; empty where none was."""

    num_kept_thoughts: int = 0
    """Think blocks that the chat format would have dropped from later contexts, and that stayed because
    they end inside a token."""

    @classmethod
    def of_episode(
        cls,
        task: Task,
        turns: Sequence[Turn],
        info: Mapping[str, Any],
        *,
        end_reason: str = "",
        **fields: Any,
    ) -> "Trajectory":
        """The record of an episode of `task`.

        Args:
            task: What was played.
            turns: In order.
            info: The environment's last word; empty where an episode was ended from outside.
            end_reason: Why it was ended from outside; "" for the environment's own reason.
            fields: The other fields of the record.
        """
        verdict = info.get("verdict") or None
        return cls(
            task_id=task.task_id,
            turns=tuple(turns),
            verdict=None if verdict is None else Verdict(verdict),
            end_reason=end_reason or str(info.get("end_reason", "")),
            answer=str(info.get("answer", "")),
            question=task.question,
            gold=task.answers,
            passage_ids=tuple(passage_id for turn in turns for passage_id in turn.passage_ids),
            **fields,
        )

    @property
    def is_guided(self) -> bool:
        """Whether a scaffold was shown."""
        return bool(self.scaffold)

    @property
    def is_trainable(self) -> bool:
        """Whether the outcome says something about the policy: nothing else failed."""
        return (
            bool(self.turns)
            and not self.error
            and self.verdict is not Verdict.VERIFIER_ERROR
            and self.end_reason not in ("aborted", "env_error", "engine_error")
        )

    @property
    def is_correct(self) -> bool:
        """Whether the verifier called the answer correct."""
        return self.verdict is Verdict.CORRECT

    @property
    def num_action_tokens(self) -> int:
        """Sampled tokens: the ones that the loss sees."""
        return sum(len(turn.action_ids) or turn.num_tokens or 0 for turn in self.turns)

    @property
    def weight_versions(self) -> tuple[int, ...]:
        """Versions of the weights that sampled the turns, each once, lowest first."""
        return tuple(sorted({turn.weight_version for turn in self.turns}))

    def sequence(self, *, train_on: str | None = None) -> "TokenSequence":
        """The episode as one flat token sequence for the trainer.

        Args:
            train_on: "guided" keeps the prompts that were shown; "bare" puts the prompts without the
                scaffold in their place. Default: what the trajectory was made for.

        Raises:
            ValueError: If the chat format rewrote history, so that it takes several: `sequences()`.
        """
        sequences = self.sequences(train_on=train_on)
        if len(sequences) != 1:
            raise ValueError(
                f"The trajectory of task {self.task_id!r} is {len(sequences)} training sequences, as "
                "its chat format rewrites history: use sequences()."
            )
        return sequences[0]

    def sequences(self, *, train_on: str | None = None) -> "list[TokenSequence]":
        """The episode as token sequences for the trainer: one for each context that it went through.

        Each sampled token is trained exactly once, behind the context that it was sampled in; earlier
        actions that a new context repeats are part of its prompt.

        Args:
            train_on: As for `sequence`.

        Returns:
            In the order of the turns; one where the format appends only, none without turns.
        """
        train_on = train_on or self.train_on
        if train_on not in ("guided", "bare"):
            raise ValueError(f"train_on is {train_on!r}; choose 'guided' or 'bare'.")
        is_moved = train_on == "bare" and self.is_guided
        contexts: list[list[Turn]] = []
        for turn in self.turns:
            if turn.is_new_context or not contexts:
                contexts.append([])
            contexts[-1].append(turn)
        sequences = []
        for turns in contexts:
            ids: list[int] = []
            mask: list[int] = []
            logprobs: list[float] = []
            for turn in turns:
                prompt = turn.prompt_ids
                if is_moved:
                    bare = self.bare_prompt_ids if turn is self.turns[0] else turn.bare_prompt_ids
                    prompt = prompt if bare is None else bare
                ids += [*prompt, *turn.action_ids]
                mask += [0] * len(prompt) + [1] * len(turn.action_ids)
                logprobs += [0.0] * len(prompt) + list(turn.logprobs)
            sequences.append(
                TokenSequence(
                    ids=tuple(ids),
                    loss_mask=tuple(mask),
                    logprobs=tuple(logprobs),
                    is_on_policy=not is_moved,
                )
            )
        return sequences

    def to_row(self) -> dict[str, Any]:
        """A JSON object with everything, for the run folder."""
        row = asdict(self)
        row["verdict"] = None if self.verdict is None else self.verdict.value
        return row

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "Trajectory":
        """The trajectory that `to_row` wrote."""
        turns = tuple(
            Turn(
                **{
                    **turn,
                    "prompt_ids": tuple(turn["prompt_ids"]),
                    "action_ids": tuple(turn["action_ids"]),
                    "logprobs": tuple(turn["logprobs"]),
                    "passage_ids": tuple(turn.get("passage_ids", ())),
                    "bare_prompt_ids": _optional_tuple(turn.get("bare_prompt_ids")),
                }
            )
            for turn in row["turns"]
        )
        verdict = None if row["verdict"] is None else Verdict(row["verdict"])
        lists = {key: tuple(row[key]) for key in ("bare_prompt_ids", "gold", "passage_ids")}
        return cls(**{**row, **lists, "turns": turns, "verdict": verdict})


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenSequence:
    """One training sequence: [T] ids, [T] loss mask, [T] sampled log-probabilities (0 where masked)."""

    ids: tuple[int, ...]
    loss_mask: tuple[int, ...]
    logprobs: tuple[float, ...]
    is_on_policy: bool = field(default=True)
    """False when the loss conditions on another prompt than the one that was sampled under: the
    log-probabilities are then not those of this sequence and no importance ratio exists."""

    def __post_init__(self) -> None:
        assert len(self.ids) == len(self.loss_mask) == len(self.logprobs)


def _optional_tuple(values: Sequence[int] | None) -> tuple[int, ...] | None:
    return None if values is None else tuple(values)
