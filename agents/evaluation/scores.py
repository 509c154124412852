"""A task and its finished episode in, the scores of that one question out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from ...envs import Domain, Task, Verdict
from ...envs.search import retrieval_recall
from ...envs.verifiers import Normalization, contains_answer, exact_match, f1_score
from ..rollouts.trajectory import Trajectory

_Score = Callable[[str, Sequence[str], Normalization], float]
_CLOSED = frozenset({"yes", "no"})  # stands in most passages and says nothing about them


@dataclass(frozen=True, kw_only=True, slots=True)
class QuestionScores:
    """What one bare episode earned and cost; None where a score does not exist."""

    accuracy: float | None
    """1 if the verifier called the answer correct; None where the verifier failed."""

    exact_match: float | None
    """1 if the answer equals a gold answer, `strict`; None for tasks that are not searched for: only
    their verifier knows what is equal."""

    exact_match_search_r1: float | None
    """The same as Search-R1 and FlashRAG compare, `compat:search-r1`."""

    f1: float | None
    """Token F1 with the nearest gold answer, `strict`."""

    contains: float | None
    """1 if the words of a gold answer stand in the answer in a row, `strict`."""

    contains_search_r1: float | None
    """The same by substring: FlashRAG's "acc"."""

    gold_recall: float | None
    """Share of the gold passages that were shown; None for tasks that name none."""

    all_gold_shown: float | None
    """1 if every gold passage was shown."""

    answer_shown: float | None
    """1 if the words of a gold answer stood in what a search showed; None for yes/no questions
    and for tasks that are not searched for."""

    answered: float
    """1 if the episode ended with an answer."""

    turns: int
    tool_calls: int
    tool_failures: int
    invalid_actions: int
    tokens: int | None
    """Sampled tokens; None where nobody counted: a scripted policy, a server that does not tell."""

    gold_recall_by_turn: tuple[float, ...] = ()
    """After each turn, the share of the gold passages shown so far."""

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "QuestionScores":
        """The scores that were written as a JSON object.

        Raises:
            ValueError: If a field is missing or unknown: another version wrote them.
        """
        names = {field.name for field in fields(cls)}
        if set(row) != names:
            odd = ", ".join(sorted(set(row) ^ names))
            raise ValueError(f"These scores are of another version of maskgym (fields {odd}).")
        return cls(**{**row, "gold_recall_by_turn": tuple(row["gold_recall_by_turn"])})


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """A score whose mean over questions is reported."""

    name: str
    """Field of `QuestionScores`."""

    title: str
    meaning: str
    """One line for who reads the table."""

    is_share: bool = True
    """Whether it lies in [0, 1] and is shown in percent."""


METRICS = (
    Metric(name="accuracy", title="accuracy", meaning="called correct by the verifier"),
    Metric(name="exact_match", title="EM strict", meaning="equal to a gold answer, Unicode folded"),
    Metric(
        name="exact_match_search_r1",
        title="EM search-r1",
        meaning="equal as Search-R1 and FlashRAG compare",
    ),
    Metric(name="f1", title="F1", meaning="words shared with the nearest gold answer"),
    Metric(name="contains", title="contains", meaning="the words of a gold answer in the answer"),
    Metric(
        name="contains_search_r1",
        title="acc flashrag",
        meaning='the same by letters, "6" in "36": FlashRAG\'s "acc"',
    ),
    Metric(name="all_gold_shown", title="all gold shown", meaning="every gold passage was shown"),
    Metric(name="gold_recall", title="gold recall", meaning="share of the gold passages shown"),
    Metric(
        name="answer_shown",
        title="answer shown",
        meaning="the words of a gold answer in a passage shown",
    ),
    Metric(name="answered", title="answered", meaning="ended with an answer"),
    Metric(name="turns", title="turns", meaning="actions a question", is_share=False),
    Metric(name="tool_calls", title="tool calls", meaning="a question", is_share=False),
    Metric(name="tool_failures", title="tool failures", meaning="a question", is_share=False),
    Metric(
        name="invalid_actions",
        title="invalid actions",
        meaning="neither tool nor answer, a question",
        is_share=False,
    ),
    Metric(name="tokens", title="tokens", meaning="sampled, a question", is_share=False),
)


def score_question(task: Task, trajectory: Trajectory) -> QuestionScores:
    """Scores one episode of `task`; the answer is what the environment took for it, nothing else."""
    golds = task.answers
    answered = trajectory.end_reason == "answered"
    is_searched = task.domain is Domain.SEARCH and bool(golds)
    is_open = is_searched and not all(gold.strip().casefold() in _CLOSED for gold in golds)
    shown = [turn for turn in trajectory.turns if turn.observation]  # what ends an episode is not
    texts = [turn.observation for turn in shown if turn.passage_ids]
    gold, ids = task.gold_passages, [turn.passage_ids for turn in shown]
    by_turn = retrieval_recall(gold, ids) if gold else ()
    recall = (by_turn or (0.0,))[-1] if gold else None

    def compare(score: _Score, mode: Normalization) -> float | None:
        if not is_searched:
            return None
        # Under `compat`, no words equal a gold that is an article only; no answer at all never does.
        return score(trajectory.answer, golds, mode) if answered else 0.0

    strict, compat = Normalization.STRICT, Normalization.COMPAT
    is_counted = any(turn.action_ids or turn.num_tokens is not None for turn in trajectory.turns)
    is_graded = trajectory.verdict is not Verdict.VERIFIER_ERROR
    return QuestionScores(
        accuracy=float(trajectory.is_correct) if is_graded else None,
        exact_match=compare(exact_match, strict),
        exact_match_search_r1=compare(exact_match, compat),
        f1=compare(f1_score, strict),
        contains=compare(contains_answer, strict),
        contains_search_r1=compare(contains_answer, compat),
        gold_recall=recall,
        all_gold_shown=None if recall is None else float(recall == 1.0),
        answer_shown=max((contains_answer(text, golds) for text in texts), default=0.0)
        if is_open
        else None,
        answered=float(answered),
        turns=len(trajectory.turns),
        tool_calls=sum(turn.action not in ("", "answer", "invalid") for turn in trajectory.turns),
        tool_failures=sum(bool(turn.tool_error) for turn in trajectory.turns),
        invalid_actions=sum(turn.action == "invalid" for turn in trajectory.turns),
        tokens=trajectory.num_action_tokens if is_counted else None,
        gold_recall_by_turn=by_turn,
    )
