"""Expert trace: text or a list of turns in, typed turns and the actions they form out."""

from dataclasses import dataclass
from enum import StrEnum


class TurnKind(StrEnum):
    """What one turn of an expert trace is."""

    THOUGHT = "thought"
    TOOL_CALL = "tool_call"
    TOOL_RESULT = "tool_result"
    ANSWER = "answer"


@dataclass(frozen=True, kw_only=True, slots=True)
class TraceTurn:
    """One thought, tool call, tool result or answer of an expert."""

    kind: TurnKind
    text: str
    tool: str = ""
    """Name of the tool, for calls and results ("search", "python")."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpertTrace:
    """A worked solution by a stronger solver."""

    turns: tuple[TraceTurn, ...]

    @classmethod
    def from_text(cls, text: str) -> "ExpertTrace":
        """A trace of one thought: a solution written as plain text."""
        return cls(turns=(TraceTurn(kind=TurnKind.THOUGHT, text=text),))

    @property
    def text(self) -> str:
        """All turns joined by newlines; offsets of spans refer to a turn's own text instead."""
        return "\n".join(turn.text for turn in self.turns)

    @property
    def actions(self) -> tuple[tuple[int, ...], ...]:
        """Indices of the turns of each action: thoughts, then the call or answer, then its results.

        Thoughts after the last call or answer form an action of their own.
        """
        actions: list[list[int]] = []
        is_open = False
        for index, turn in enumerate(self.turns):
            if not is_open and not (turn.kind is TurnKind.TOOL_RESULT and actions):
                actions.append([])
                is_open = True
            actions[-1].append(index)
            if turn.kind in (TurnKind.TOOL_CALL, TurnKind.ANSWER):
                is_open = False
        return tuple(tuple(action) for action in actions)
