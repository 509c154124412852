"""The rollout benchmark: rivals do the same work, and what differs is the barrier."""

from dataclasses import replace
from typing import Any

import pytest

from maskgym.agents.engines.scripted_engine import ScriptedEngine, ScriptedEngineConfig
from maskgym.agents.rollouts.chat import Chat
from maskgym.agents.tiny_model import (
    CHAT_TEMPLATE,
    SPECIAL_TOKENS,
    TinyModelConfig,
    train_tokenizer,
)
from maskgym.scripts.benchmarks import training_rollouts
from maskgym.scripts.benchmarks.training_env import Workload, length_word
from maskgym.scripts.benchmarks.training_rollouts import (
    CountedLengths,
    Stage,
    overhead,
    play_ours,
    play_turns,
)

WORKLOAD = Workload(num_tasks=2, group_size=4, max_tokens=8, tool_s=0.0)


class StepwiseEngine(ScriptedEngine):
    """Takes one step for each token, as a model does."""

    def submit(self, request: Any) -> None:
        super().submit(request)
        self._pending[request.request_id].num_polls = request.params.max_tokens


@pytest.fixture
def stage() -> Stage:
    from transformers import PreTrainedTokenizerFast

    words = tuple(length_word(i) for i in range(WORKLOAD.min_tokens, WORKLOAD.max_tokens + 1))
    config = TinyModelConfig(vocab_size=400, extra_tokens=words)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=train_tokenizer(["word1 user assistant"], config=config),
        eos_token=SPECIAL_TOKENS[2],
        chat_template=CHAT_TEMPLATE,
    )
    engine = StepwiseEngine(lambda ids: [300] * 8, config=ScriptedEngineConfig())
    lengths = CountedLengths(engine, tokenizer, WORKLOAD)
    return Stage(engine=lengths, chat=Chat(tokenizer), workload=WORKLOAD)


def test_both_sample_the_same_tokens_and_the_barrier_costs_steps(stage: Stage) -> None:
    ours = play_ours(stage)
    side_by_side, in_turn = play_turns(stage, 8), play_turns(stage, 1)
    assert ours.num_tokens == WORKLOAD.num_action_tokens
    assert side_by_side.num_tokens == in_turn.num_tokens == ours.num_tokens
    scripts = [script.lengths for group in WORKLOAD.scripts().values() for script in group]
    turns = [[s[i] for s in scripts if len(s) > i] for i in range(WORKLOAD.max_turns)]
    assert side_by_side.num_polls == sum(max(turn) for turn in turns if turn)
    assert ours.num_polls >= max(map(sum, scripts))


def test_batches_of_more_episodes_than_fit_are_played_one_after_the_other(stage: Stage) -> None:
    whole = play_turns(stage, 8, batch_size=8)
    halves = play_turns(stage, 8, batch_size=4)
    assert halves.num_tokens == whole.num_tokens
    assert halves.num_polls > whole.num_polls


def test_the_profile_says_where_the_time_goes(stage: Stage) -> None:
    table = overhead(stage)
    parts = {str(row[0]): float(row[1]) for row in table.rows if isinstance(row[1], float)}
    whole = parts.pop("the scheduler's thread, all")
    assert all(value > 0 for value in parts.values())
    assert sum(parts.values()) == pytest.approx(whole)


def test_arms_that_do_other_work_are_noticed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(stage: Stage) -> Any:
        played = play_ours(stage)
        return replace(played, num_tokens=played.num_tokens // 2)

    with pytest.raises(AssertionError, match="different numbers of tokens"):
        training_rollouts._rounds(stage, {"ours": play_ours, "half": half}, 1)
