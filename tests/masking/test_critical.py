import gzip
import json
import re
import time
from pathlib import Path

import pytest

from maskgym.envs import Domain, Task
from maskgym.masking import ExpertTrace, Span, SpanKind, TraceTurn, TurnKind, find_spans
from maskgym.masking.critical import CriticalPath, find_critical
from maskgym.masking.policies import critical, critical_keep_given
from maskgym.masking.render import RenderConfig, render_turn
from maskgym.masking.spans import VALUE_KINDS, merge_overlaps

CONFIG = RenderConfig(escape_literals=False)


def shown(text: str, task: Task, *, keeps_givens: bool = False) -> str:
    trace = ExpertTrace.from_text(text)
    policy = critical_keep_given if keeps_givens else critical
    hidden = merge_overlaps(policy(trace, find_spans(trace, task), task), [text])
    masked = render_turn(text, hidden, CONFIG)
    return re.sub(r"\[(NUMBER|ANSWER|EXPRESSION)\]", "_", masked)


def task_of(answer: str, question: str = "?") -> Task:
    return Task(task_id="t", question=question, answers=(answer,))


@pytest.mark.parametrize(
    ("text", "answer", "masked"),
    [
        # The path alone; what lies beside it stays, though the digits are the same.
        (
            "4 + 5 = 9\n9 * 2 = 18\nBeside, 4 + 30 = 34\n#### 18",
            "18",
            "_ + _ = _\n_ * _ = _\nBeside, 4 + 30 = 34\n#### _",
        ),
        # The latest statement before the use produced the value, not the first with its digits.
        (
            "1 + 8 = 9\n4 + 5 = 9\n9 * 2 = 18\n#### 18",
            "18",
            "1 + 8 = 9\n_ + _ = _\n_ * _ = _\n#### _",
        ),
        # ... and not one that comes after it.
        (
            "4 + 5 = 9\n9 * 2 = 18\n1 + 8 = 9\n#### 18",
            "18",
            "_ + _ = _\n_ * _ = _\n1 + 8 = 9\n#### _",
        ),
        # Mentions of what the path computed, before and after.
        (
            "He has 9, because 4 + 5 = 9.\nThe 9 double: 9 * 2 = 18",
            "18",
            "He has _, because _ + _ = _.\nThe _ double: _ * _ = _",
        ),
        ("48/2 = <<48/2=24>>24\n24+48=<<24+48=72>>72\n#### 72", "72", None),
        # A statement that uses the target can be solved for it.
        (
            "4 + 5 = 9\nCheck: 9 - 5 = 4\n6 - 5 = 1",
            "9",
            "_ + _ = _\nCheck: _ - _ = _\n6 - 5 = 1",
        ),
        ("It is 4 + 5 here, also (4 + 5) * 2", "9", "It is _ + _ here, also (_ + _) * _"),
        # Variables lead from one line to the one before.
        ("2x + 3 = 11\n2x = 8\nx = 4\ny = 6", "4", "_x + _ = _\n_x = _\nx = _\ny = 6"),
        (
            r"\frac{48}{2} = 24 \text{ and } 24 \cdot 3 = 72, while 5 \cdot 3 = 15",
            "72",
            r"_ = _ \text{ and } _ \cdot _ = _, while 5 \cdot 3 = 15",
        ),
        ("100% - 25% = 75%\n80 * 75/100 = 60\n7 + 7 = 14", "60", None),
    ],
)
def test_the_path_to_the_target_is_hidden_and_nothing_else(
    text: str, answer: str, masked: str | None
) -> None:
    found = shown(text, task_of(answer))
    if masked is not None:
        assert found.replace("\\frac{_}{_}", "_") == masked
    elif "14" in text:
        assert found.endswith("7 + 7 = 14") and not re.search(r"\d", found[: -len("7 + 7 = 14")])
    else:
        assert not re.search(r"\d", found)


def test_given_operands_stay_where_that_is_asked_for_but_never_the_target() -> None:
    text = "4 + 5 = 9\n9 * 2 = 18\n7 + 7 = 14\n#### 18"
    task = task_of("18", "Ann has 4 eggs and 5 more, then twice as many; 18 is the most.")
    assert shown(text, task, keeps_givens=True) == "4 + 5 = _\n_ * _ = _\n7 + 7 = 14\n#### _"


def test_if_no_statement_gives_the_target_every_value_is_hidden() -> None:
    task = task_of("30", "He runs 6 miles.")
    assert shown("6 * 2 = 12, and so 30", task) == "_ * _ = _, and so _"
    assert shown("6 * 2 = 12, and so 30", task, keeps_givens=True) == "6 * _ = _, and so _"


def test_a_target_that_is_no_number_is_followed_back_from_where_it_stands() -> None:
    text = "a = 4\nA = a \\cdot r\nA = \\boxed{4r}\nb = 9"
    found = shown(text, task_of("4r"))
    assert found.endswith("b = 9") and "4" not in found


def test_in_code_all_programs_are_critical() -> None:
    task = Task(task_id="t", question="?", domain=Domain.CODE)
    text = "Sort 3 lists:\n```python\nx = 3\n```\nthen\n```python\ny = 4\n```"
    trace = ExpertTrace.from_text(text)
    _, on_the_way = find_critical(trace, find_spans(trace, task), task)
    assert {span.kind for span in on_the_way} == {SpanKind.CODE}
    assert "x = 3" in on_the_way[0].value and "y = 4" in on_the_way[-1].value


def test_in_a_search_target_bridges_and_their_queries_are_critical() -> None:
    task = Task(
        task_id="t",
        question="Where was the author of Emma born?",
        answers=("Steventon",),
        entities=("Jane Austen",),
        domain=Domain.SEARCH,
    )
    turns = (
        TraceTurn(kind=TurnKind.THOUGHT, text="Jane Austen wrote it. Another is Walter Scott."),
        TraceTurn(kind=TurnKind.TOOL_CALL, text="Jane Austen birthplace", tool="search"),
        TraceTurn(kind=TurnKind.TOOL_CALL, text="books of 1815", tool="search"),
        TraceTurn(kind=TurnKind.ANSWER, text="Steventon"),
    )
    trace = ExpertTrace(turns=turns)
    queries = [
        Span(turn=turn, start=0, end=len(text), kind=SpanKind.QUERY, value=text, detector="queries")
        for turn, text in ((1, turns[1].text), (2, turns[2].text))
    ]
    name = Span(
        turn=0, start=33, end=45, kind=SpanKind.ENTITY, value="Walter Scott", detector="ner"
    )
    found = [span for span in find_spans(trace, task) if span.kind is not SpanKind.QUERY]
    hidden = critical(trace, [*found, *queries, name], task)
    values = {span.value for span in hidden}
    assert {"Jane Austen", "Jane Austen birthplace", "Steventon"} <= values
    assert not {"books of 1815", "Walter Scott"} & values


@pytest.mark.parametrize("text", ["", "no value at all", "Step 1", "[NUMBER] + [NUMBER]"])
def test_a_trace_without_values_is_left_as_it_is(text: str) -> None:
    assert shown(text, task_of("7")) == text.replace("[NUMBER]", "_")


def test_the_path_is_found_in_nearly_all_gsm8k_solutions(shared_data: Path) -> None:
    num_rows = num_unknown = num_values = num_hidden = 0
    with gzip.open(shared_data / "gsm8k" / "train.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line, _ in zip(lines, range(1000), strict=False):
            row = json.loads(line)
            text = row["answer"]
            trace, task = ExpertTrace.from_text(text), task_of(text.rpartition("#### ")[2].strip())
            spans = find_spans(trace, task)
            hidden = critical(trace, spans, task)
            values = merge_overlaps((s for s in spans if s.kind in VALUE_KINDS), [text])
            starts = {span.start for span in merge_overlaps(hidden, [text])}
            num_rows += 1
            num_unknown += not CriticalPath(trace, spans, task).is_found
            num_values += len(values)
            num_hidden += sum(span.start in starts for span in values)
    assert num_rows == 1000
    assert num_unknown <= 20
    assert 0.9 < num_hidden / num_values < 0.99


@pytest.mark.parametrize("piece", ["1+2=3 ", "3+4=7\n", "7 is 7, ", "<<1+1=2>>2\n", "x+y=7\n"])
@pytest.mark.usefixtures("no_garbage_collection")
def test_slicing_takes_time_in_proportion_to_the_length(piece: str) -> None:
    def seconds(num_characters: int) -> float:
        trace = ExpertTrace.from_text(piece * (num_characters // len(piece)))
        start = time.process_time()
        critical(trace, (), task_of("7"))
        return time.process_time() - start

    assert seconds(60_000) < 12 * max(seconds(15_000), 0.02)
