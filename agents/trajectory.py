"""The record of one episode: what was shown, what was sampled, what it earned.

Ids, loss mask and log-probabilities are one flat sequence each; every other number derives from them.
"""

# P: prompt tokens, A: action tokens, T: all tokens of the episode

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..envs import Task, Verdict


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """One action and what came before it."""

    prompt_ids: tuple[int, ...]
    """[P] tokens new to the context: the opening prompt, or the observation. Never trained on."""

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
    """The environment's reason, or the rollout's: context, deadline, aborted, env_error."""

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
        """Whether the outcome says something about the policy: no failed environment or verifier."""
        return (
            bool(self.turns)
            and not self.error
            and self.verdict is not Verdict.VERIFIER_ERROR
            and self.end_reason not in ("aborted", "env_error")
        )

    @property
    def is_correct(self) -> bool:
        """Whether the verifier called the answer correct."""
        return self.verdict is Verdict.CORRECT

    @property
    def num_action_tokens(self) -> int:
        """Sampled tokens: the ones that the loss sees."""
        return sum(len(turn.action_ids) or turn.num_tokens or 0 for turn in self.turns)

    def sequence(self, *, train_on: str | None = None) -> "TokenSequence":
        """The episode as one flat token sequence for the trainer.

        Args:
            train_on: "guided" keeps the prompt that was shown; "bare" puts the prompt without the
                scaffold in its place. Default: what the trajectory was made for.
        """
        train_on = train_on or self.train_on
        if train_on not in ("guided", "bare"):
            raise ValueError(f"train_on is {train_on!r}; choose 'guided' or 'bare'.")
        ids: list[int] = []
        mask: list[int] = []
        logprobs: list[float] = []
        for i, turn in enumerate(self.turns):
            prompt = turn.prompt_ids
            if i == 0 and train_on == "bare" and self.is_guided:
                prompt = self.bare_prompt_ids
            ids += [*prompt, *turn.action_ids]
            mask += [0] * len(prompt) + [1] * len(turn.action_ids)
            logprobs += [0.0] * len(prompt) + list(turn.logprobs)
        return TokenSequence(
            ids=tuple(ids),
            loss_mask=tuple(mask),
            logprobs=tuple(logprobs),
            is_on_policy=not (train_on == "bare" and self.is_guided),
        )

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
