"""The masking benchmark: its probes find planted leaks, and every table is made from little data."""

import dataclasses
import gzip
import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from maskgym.envs import CodeTest, Domain, SubprocessSandbox, Task, TestKind
from maskgym.masking import ExpertTrace, RenderConfig, mask
from maskgym.scripts.benchmarks import masking
from maskgym.scripts.benchmarks.code_probe import CodeProbe, candidates, visible_share
from maskgym.scripts.benchmarks.code_traces import STYLES
from maskgym.scripts.benchmarks.leak_probe import Leak, date_of, find_leak, number_of
from maskgym.scripts.benchmarks.masking_adversarial import INPUTS, measure_adversarial
from maskgym.scripts.benchmarks.masking_structure import StructureCount, labels_in
from maskgym.scripts.benchmarks.outside_libraries import time_limit
from maskgym.scripts.benchmarks.released_masker import (
    RELEASED_BEHAVIOUR,
    load_released_masker,
)
from maskgym.scripts.benchmarks.tables import Table, rate
from maskgym.scripts.benchmarks.trace_sets import Case, mint_turns


def leak(
    gold: str, scaffold: str, domain: Domain = Domain.MATH, question: str = "?"
) -> Leak | None:
    task = Task(task_id="t", question=question, answers=(gold,), domain=domain)
    return find_leak(task, scaffold)


@pytest.mark.parametrize(
    ("gold", "scaffold", "form"),
    [
        ("18", "She makes $18 a day.", "number"),
        ("1234", "1,234 in all", "number"),
        ("0.5", "that is \\frac{1}{2} of it", "number"),
        ("0.5", "that is 50\\% of it", "number"),
        ("1/2", "\\tfrac12", "number"),
        ("3/4", "so 6 / 8 of them", "number"),
        ("2500", "2.5 \\times 10^{3} m", "number"),
        ("16", "him16", "number"),
        ("3", "there are three of them", "words"),
        ("105", "one hundred and five pears", "words"),
        ("12", "a dozen", "words"),
        ("1", "exactly one is left", "words"),
        ("\\pi", "The area is $\\pi$.", "literal"),
        ("x+2", "hence $x + 2$ is it", "literal"),
        ("x+2", "hence \\(2 + x\\) is it", "equal"),
        ("\\text{Yes}", "The answer is Yes.", "answer"),
        ("B", "so the choice is (B).", "answer"),
    ],
)
def test_a_planted_leak_of_a_math_target_is_found(gold: str, scaffold: str, form: str) -> None:
    if form == "words":
        pytest.importorskip("text_to_num")
    if form == "equal":
        pytest.importorskip("math_verify")
    found = leak(gold.replace("\\text{Yes}", "Yes"), scaffold)
    assert found is not None and found.form == form and not found.aside


@pytest.mark.parametrize(
    ("gold", "scaffold", "form"),
    [
        ("Ada Lovelace", "It was Ada Lovelace, of course", "name"),
        ("Malmö", "the town of malmo", "name"),
        ("the Beatles", "by Beatles", "name"),
        ("across a membrane", "across the membrane", "name"),
        ("10 June 1940", "On June 10, 1940 it began", "date"),
        ("10 June 1940", "dated 1940-06-10", "date"),
        ("yes", "answer: Yes", "answer"),
        ("1809", "born in 1809", "number"),
    ],
)
def test_a_planted_leak_of_a_search_target_is_found(gold: str, scaffold: str, form: str) -> None:
    found = leak(gold, scaffold, Domain.SEARCH)
    assert found is not None and found.form == form


@pytest.mark.parametrize(
    ("gold", "scaffold", "domain"),
    [
        ("18", "She makes $[NUMBER] a day in [NUMBER_18] steps.", Domain.MATH),
        ("18", "180 and 1.8 and 0.18 and 218", Domain.MATH),
        ("1", "x_1 + H1 and one can see that one of them fits", Domain.MATH),
        ("\\pi", "The area is $[CONSTANT]$.", Domain.MATH),
        ("B", "A boy and a bee: [CHOICE]", Domain.MATH),
        ("S", "the Ocean's shape: [ENTITY]", Domain.SEARCH),
        ("none", "none of them fits", Domain.SEARCH),
        ("no", "There is no reason. answer: [ANSWER]", Domain.SEARCH),
        ("Ada Lovelace", "It was [ENTITY], the Lovelace prize of Ada", Domain.SEARCH),
        ("The Question (poem)", "to answer the question. The poem was", Domain.SEARCH),
        ("10 June 1940", "On June 11, 1940 it began", Domain.SEARCH),
    ],
)
def test_a_clean_scaffold_raises_no_alarm(gold: str, scaffold: str, domain: Domain) -> None:
    assert leak(gold, scaffold, domain) is None


def test_what_the_question_says_tells_nothing_of_a_name_but_a_number_still_counts() -> None:
    assert leak("Paris", "so Paris", Domain.SEARCH, "Is Paris or Rome larger?") is None
    assert leak("5", "so 5 = [NUMBER]", question="I have 5 pears.") is not None


def test_the_number_of_a_label_is_told_apart_from_a_value() -> None:
    for scaffold in ("Step 3: [NUMBER]", "1. a\n3. b", "**Case 3**"):
        found = leak("3", scaffold)
        assert found is not None and found.aside == "label"
    found = leak("3", "Step 3: so it is 3")
    assert found is not None and not found.aside


def test_an_open_division_is_told_apart_from_a_fraction() -> None:
    found = leak("100", "he does 400/4 = [NUMBER]")
    assert found is not None and found.aside == "division"
    found = leak("0.75", "he does 6/8 of it")
    assert found is not None and not found.aside


def test_a_number_before_its_scale_is_read_alone_and_the_scale_is_not() -> None:
    found = leak("10", "He sells 10 dozen donuts")
    assert found is not None and not found.aside
    assert leak("12", "He sells 10 dozen donuts") is None
    assert leak("1000000", "There are 3 million women and [NUMBER] million men") is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$1,234.50", Fraction(2469, 2)),
        ("-3", Fraction(-3)),
        ("\\frac{1}{2}", Fraction(1, 2)),
        ("1.28e-06", Fraction(128, 10**8)),
        ("5\\%", Fraction(5)),
        ("x", None),
        ("3 or 4", None),
    ],
)
def test_numbers_are_read_exactly(text: str, value: Fraction | None) -> None:
    assert number_of(text) == value


def test_dates_are_equal_in_every_order() -> None:
    assert date_of("12 May 1809") == date_of("May 12, 1809") == date_of("1809-05-12")
    assert date_of("May 1809") is None


PROGRAM = "def double(number):\n    result = number + number\n    return result"
CODE_TASK = Task(
    task_id="double",
    question="Write a function double.",
    domain=Domain.CODE,
    tests=(CodeTest(kind=TestKind.ASSERT, source="assert double(4) == 8"),),
    entry_point="double",
)


@pytest.fixture
def probe() -> Iterator[CodeProbe]:
    sandbox = SubprocessSandbox()
    yield CodeProbe(sandbox)
    sandbox.close()


@pytest.mark.parametrize("style", STYLES)
def test_a_program_is_found_in_every_style_of_writing(style: str, probe: CodeProbe) -> None:
    found = probe.find_leak(CODE_TASK, PROGRAM, STYLES[style](PROGRAM))
    assert found is not None and found.form == "lines"


def test_another_program_that_passes_is_a_leak_as_well(probe: CodeProbe) -> None:
    other = "We may write\n\n    def double(x):\n        return 2 * x\n\nand that is all."
    found = probe.find_leak(CODE_TASK, PROGRAM, other)
    assert found is not None and found.form == "passes"
    assert probe.find_leak(CODE_TASK, PROGRAM, other.replace("2 *", "3 *")) is None
    assert probe.find_leak(CODE_TASK, PROGRAM, "First [CODE], then return it.") is None


def test_lines_of_the_question_do_not_count() -> None:
    share, _ = visible_share(PROGRAM, "def double(number):\n    ...", "def double(number):")
    assert share == 0
    share, line = visible_share(PROGRAM, "", "Put `return result` last, result = number + number")
    assert share == pytest.approx(2 / 3) and line == "result = number + number"


def test_prose_is_no_candidate_program() -> None:
    assert list(candidates("import is a word.\nclass struggles, too")) == []
    assert list(candidates("Use\n  def f(x):\n    return x\nas it is")) == ["def f(x):\n  return x"]


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Step 3: 3+4=7", "__STRUCTURAL_NUMBER_[NUMBER]__: [NUMBER][NUMBER]=[NUMBER]"),
        ("\\frac{1}{2} of -5", "[NUMBER] of [NUMBER]"),
        ("-\\frac{1}{2}", "-[NUMBER]"),
        ("\\sqrt[3]{8} and 2 \\times 10^{-3}", "[NUMBER] and [NUMBER]"),
        ("1,234 at 5 %", "[NUMBER],[NUMBER] at [NUMBER]"),
        ("Steps 3 in twelve", "Steps [NUMBER] in twelve"),
    ],
)
def test_the_released_behaviour_is_what_its_authors_outputs_show(text: str, masked: str) -> None:
    assert RELEASED_BEHAVIOUR.math(text) == masked


def test_the_released_behaviour_on_code_and_searches() -> None:
    masker = RELEASED_BEHAVIOUR
    assert masker.mask("a ``` python \nx = 1\n``` b", "code") == "a ```python\n[CODE]\n``` b"
    assert masker.mask("~~~\nx = 1\n~~~", "code") == "~~~\nx = 1\n~~~"
    assert masker.mask("born in 1809", "search") == "born in 1809"


def test_a_users_own_copy_of_the_released_masker_is_run(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("def mask_math_teacher_trace(text): return text.upper()\n")
    with pytest.raises(ValueError, match="mask_code_teacher_trace"):
        load_released_masker(path)
    with path.open("a") as file:
        file.write("def mask_code_teacher_trace(text): return ''\n")
    assert load_released_masker(path).mask("a", "math") == "A"
    with pytest.raises(ValueError, match="no Python file"):
        load_released_masker(tmp_path / "absent.py")


def test_a_rate_of_nothing_has_no_interval() -> None:
    assert rate(1, 3).startswith("1/3 = 33.33% [")
    assert rate(0, 0) == "0/0"


def test_a_table_is_written_as_markdown_with_its_bars_escaped() -> None:
    table = Table(title="T", columns=("a", "b"), notes=["n"])
    table.add("x|y", 1.23456)
    assert table.to_markdown() == "## T\n\n| a | b |\n| --- | --- |\n| x\\|y | 1.23 |\n\n- n\n"
    assert table.to_json()["rows"] == [{"a": "x|y", "b": 1.23456}]


def case_of(text: str) -> Case:
    task = Task(task_id="row", question="How many?", answers=("7",))
    return Case(task=task, trace=ExpertTrace.from_text(text))


def test_structure_that_is_kept_is_not_counted_as_gone() -> None:
    count = StructureCount()
    case = case_of("Step 1: 3+4=7.\n1. First\n2. Then 8 [NUMBER] - 1")
    count.add(case, mask(case.trace, case.task, "all"), RenderConfig())
    assert count.cells() == [0] * len(StructureCount.COLUMNS)


def test_structure_that_is_hidden_is_counted() -> None:
    count = StructureCount()
    case = case_of("Step 1: 3+4=7. So\nit is 7")
    scaffold = mask(case.trace, case.task, "random_matched(3)")
    everything = scaffold.spans[0]._replace(
        start=0, end=len(case.trace.text), value=case.trace.text
    )
    hidden = dataclasses.replace(scaffold, text="[WORD]", turns=("[WORD]",), hidden=(everything,))
    count.add(case, hidden, RenderConfig())
    gone = dict(zip(StructureCount.COLUMNS, count.cells(), strict=True))
    assert gone["operators hidden"] == 2 and gone["line breaks hidden"] == 1
    assert gone["labels hidden"] == 1 and gone["text changed"] == 0
    changed = dataclasses.replace(hidden, text="[WORD] and more")
    count.add(case, changed, RenderConfig())
    assert count.gone["text changed"] == 1


def test_labels_are_steps_and_markers_that_count_on() -> None:
    text = "1. a\n2) b\n7. seven\nStep 4 holds"
    assert [text[start:end] for start, end in labels_in(text)] == ["4", "1", "2"]


def test_a_time_limit_ends_what_takes_too_long() -> None:
    with pytest.raises(TimeoutError), time_limit(0.05):
        while True:
            pass


def test_mint_messages_become_turns() -> None:
    history = [
        {"role": "user", "content": "Task"},
        {
            "role": "assistant",
            "content": "Assistant:\n<thought> A </thought>\n<execute>1+1</execute>",
        },
        {"role": "user", "content": "Observation:\n2\n"},
        {"role": "assistant", "content": "So\n<solution> 2 </solution>"},
    ]
    turns = mint_turns(history)
    assert [(str(turn.kind), turn.tool, turn.text.strip()) for turn in turns] == [
        ("thought", "", "A"),
        ("tool_call", "python", "1+1"),
        ("tool_result", "python", "2"),
        ("thought", "", "So"),
        ("answer", "", "2"),
    ]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def tiny_data(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    rows = [
        {
            "question": f"Ann has {n} pears and buys 4. How many has she?",
            "answer": f"Step 1: she has {n}+4=<<{n}+4={n + 4}>>{n + 4}.\n#### {n + 4}",
        }
        for n in (3, 30, 300)
    ]
    write_rows(data / "gsm8k" / "train.jsonl.gz", rows)
    messages = [
        {"role": "user", "content": "Who wrote the first program?"},
        {"role": "assistant", "content": "Thought: I search.\nAction: search[first program]"},
        {"role": "user", "content": "Observation: Ada Lovelace did."},
        {"role": "assistant", "content": "Thought: So Lovelace.\nAction: finish[Ada Lovelace]"},
    ]
    write_rows(data / "fireact_trajectories" / "hotpotqa.jsonl.gz", [{"messages": messages}])
    humaneval = {
        "task_id": "HumanEval/0",
        "prompt": 'def double(number):\n    """Twice the number."""\n',
        "canonical_solution": "    result = number + number\n    return result\n",
        "entry_point": "double",
        "test": "def check(candidate):\n    assert candidate(4) == 8\n",
    }
    write_rows(data / "humaneval" / "HumanEval.jsonl.gz", [humaneval])
    return data


def test_every_table_is_printed_from_a_tiny_data_set(
    tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "tables.json"
    parts = "leaks,structure,compat"
    arguments = ["--data", str(tiny_data), "--only", parts, "--limit", "20", "--out", str(out)]
    assert masking.main(arguments) == 0
    printed = capsys.readouterr().out
    tables = {table["title"]: table for table in json.loads(out.read_text())}
    leaks = tables["Leak L1 on real traces, by an independent probe"]
    rows = {row["data set"]: row for row in leaks["rows"]}
    assert rows["GSM8K train"]["none"].startswith("3/3")
    assert rows["GSM8K train"]["all"].startswith("0/3")
    assert rows["FireAct hotpotqa"]["released"].startswith("1/1")
    assert rows["FireAct hotpotqa"]["all"].startswith("0/1")
    assert rows["HumanEval, ~~~"]["released"].startswith("1/1")
    assert rows["HumanEval, ~~~"]["all"].startswith("0/1")
    assert any("GSM8K test: no file" in note for note in leaks["notes"])
    assert "Every exception of ours" in tables and "Structure kept" in tables
    (compat,) = [
        row
        for row in tables["smepo_compat against the released behaviour"]["rows"]
        if row["texts"] == "GSM8K train solutions"
    ]
    assert compat["num"] == 3 and compat["differ"] == 0
    assert compat["released sha256"] == compat["ours sha256"]
    assert "## Structure kept" in printed


def test_a_missing_folder_is_said_and_speed_is_measured_on_made_up_traces(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = tmp_path / "absent"
    assert masking.main(["--data", str(absent), "--only", "speed,aliases", "--limit", "2"]) == 0
    printed = capsys.readouterr().out
    assert f"{absent} is no folder" in printed
    assert "short traces are made up" in printed and "real aliases are left out" in printed
    assert "| 8 kB | 2 |" in printed


def test_adversarial_inputs_grow_with_their_size_and_are_timed() -> None:
    for name, make in INPUTS.items():
        assert 0.7 < len(make(4000)) / 4000 < 1.5, name
    (table,) = measure_adversarial((1000, 2000), {"digits": INPUTS["digits"]})
    assert {row[2] for row in table.rows} == {"math", "code", "search"}
    assert all(isinstance(row[3], float) for row in table.rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "leeks"], "'leeks' is no part"),
        (["--limit", "0"], "--limit is 0"),
        (["--out", "tables.txt"], "neither .md nor .json"),
    ],
)
def test_a_wrong_argument_is_told_what_to_do(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert masking.main(arguments) == 2
    assert message in capsys.readouterr().err
