"""load_tasks: every preset on real rows, our own schema and back, and what bad rows say."""

import gzip
import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from maskgym.envs import Domain, Task, TestKind, load_tasks, save_tasks
from maskgym.envs.mappings import MAPPINGS, ColumnMapping, guess_mapping
from maskgym.envs.testbed import FictionalWorld, SmallPrograms
from maskgym.masking import TurnKind

QUESTION = "What is 6 times 7?"
REWARD = {"ground_truth": "42", "style": "rule"}
IO = {"inputs": ["1\n", "2\n"], "outputs": ["2\n", "4\n"]}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rows.jsonl"


@pytest.mark.parametrize(
    "row",
    [
        {"question": QUESTION, "reward_model": REWARD, "teacher_ds": "6 * 7 = 42"},
        {"extra_info": {"question": QUESTION, "reward_model": REWARD, "teacher_ds": "6 * 7 = 42"}},
        {
            "data_source": "smepo-math",
            "prompt": [
                {"role": "system", "content": "You are an expert."},
                {"role": "user", "content": QUESTION},
            ],
            "ability": "math",
            "reward_model": REWARD,
            "extra_info": {"index": 0, "answer": "42", "teacher_ds": "6 * 7 = 42"},
        },
    ],
    ids=["top level", "under extra_info", "as verl prepares it"],
)
@pytest.mark.parametrize("mapping", ["smepo", None])
def test_smepo_rows_load_as_released(path: Path, row: dict[str, Any], mapping: str | None) -> None:
    (task,) = load_tasks(write(path, row), domain="math", mapping=mapping)
    assert (task.question, task.answers, task.task_id) == (QUESTION, ("42",), "rows-1")
    assert task.expert_trace is not None and task.expert_trace.text == "6 * 7 = 42"


def test_smepo_rows_load_from_parquet(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [
        {"question": f"{QUESTION} {i}", "reward_model": REWARD, "teacher_ds": "t"} for i in (1, 2)
    ]
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "math.parquet")
    tasks = load_tasks(tmp_path / "math.parquet", domain=Domain.MATH)
    assert [task.question for task in tasks] == [f"{QUESTION} 1", f"{QUESTION} 2"]


def test_smepo_code_rows_become_stdio_or_call_tests(path: Path) -> None:
    called = {"fn_name": "double", "inputs": ["1\n2", "[3]\n0"], "outputs": ["2", "[3]"]}
    boxed = {"fn_name": "double", "inputs": [[1, 2]], "outputs": [[2]]}
    rows = [
        {
            "question": QUESTION,
            "reward_model": {"ground_truth": json.dumps(tests)},
            "teacher_ds": "t",
        }
        for tests in (IO, called, boxed)
    ]
    stdio, call, apps = load_tasks(write(path, *rows), domain="code")
    assert [(test.kind, test.stdin, test.expected) for test in stdio.tests] == [
        (TestKind.STDIO, "1\n", "2\n"),
        (TestKind.STDIO, "2\n", "4\n"),
    ]
    assert [(test.arguments, test.expected) for test in call.tests] == [
        ("[1, 2]", "2"),
        ("[[3], 0]", "[3]"),
    ]
    assert [(test.arguments, test.expected) for test in apps.tests] == [("[1, 2]", "2")]


def test_a_gsm8k_row_loses_its_annotations_and_gains_an_answer_turn(path: Path) -> None:
    row = {
        "question": QUESTION,
        "answer": "He has 48/2 = <<48/2=24>>24.\nSo $<<24*50=1200>>1,200.\n#### 1,200",
    }
    (task,) = load_tasks(write(path, row), domain="math")
    assert task.answers == ("1200",) and task.expert_trace is not None
    assert [(turn.kind, turn.text) for turn in task.expert_trace.turns] == [
        (TurnKind.THOUGHT, "He has 48/2 = 24.\nSo $1,200."),
        (TurnKind.ANSWER, "1200"),
    ]


def test_humaneval_and_mbpp_rows_become_assert_tests(shared_data: Path) -> None:
    humaneval = load_tasks(shared_data / "humaneval/HumanEval.jsonl.gz", domain="code")
    assert len(humaneval) == 164
    first = humaneval[0]
    assert first.entry_point == "has_close_elements" and first.prompt == first.question
    assert first.tests[0].source.endswith("check(has_close_elements)\n")
    assert first.expert_trace is not None
    assert (
        first.expert_trace.text.startswith("```python\nfrom typing")
        and "return False" in first.expert_trace.text
    )
    mbpp = load_tasks(shared_data / "mbpp/mbpp.jsonl.gz", domain="code")
    assert len(mbpp) == 974 and all(len(task.tests) >= 1 for task in mbpp)
    assert mbpp[0].entry_point == "min_cost" and mbpp[0].tests[0].source in mbpp[0].question + "\n"


@pytest.mark.parametrize(
    ("name", "count", "first_id"),
    [
        ("popqa/popqa_1000.jsonl.gz", 1000, "test_10207"),
        ("wiki_passages/queries.jsonl.gz", 8702, "qed-dev--3290814144789249484"),
        ("nq_open/NQ-open.dev.jsonl", 3610, "NQ-open-1"),
        ("hotpotqa/hotpot_dev_verl_format.jsonl.gz", 7405, "hotpot_dev_verl_format-1"),
    ],
)
def test_search_sets_load_with_their_columns_guessed(
    shared_data: Path, name: str, count: int, first_id: str
) -> None:
    num_without_answers = 20 if "wiki_passages" in name else 0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tasks = load_tasks(shared_data / name, domain="search", on_bad_row="skip")
    assert [f"Skipped {num_without_answers} bad rows" in str(w.message) for w in caught] == (
        [True] if num_without_answers else []
    )
    assert len(tasks) == count
    assert tasks[0].task_id == first_id and all(task.answers for task in tasks)


def test_all_our_tasks_round_trip_through_a_file(path: Path) -> None:
    for family, domain in ((FictionalWorld, "search"), (SmallPrograms, "code")):
        tasks = list(family(2, "test", 1, 10))
        save_tasks(tasks, path)
        assert load_tasks(path, domain=domain) == tasks
        assert load_tasks(path, domain=domain, mapping="maskgym", limit=3) == tasks[:3]
    odd = Task(
        task_id="1",
        question="日本 \u2028 \n 😀",
        answers=("a", "b"),
        level=3,
        split="x",
        prompt="p",
    )
    save_tasks([odd], path)
    assert load_tasks(path, domain="math") == [odd]


def test_a_mapping_of_ones_own_reaches_nested_fields(path: Path) -> None:
    row = {"id": 7, "q": {"text": QUESTION}, "a": [42, "forty-two"], "hard": 3, "names": ["X"]}
    mapping = ColumnMapping(
        question="missing|q.text", answers="a", task_id="id", level="hard", entities="names"
    )
    (task,) = load_tasks(write(path, row), domain="math", mapping=mapping)
    assert (task.task_id, task.answers, task.level) == ("7", ("42", "forty-two"), 3)
    assert task.question == QUESTION and task.entities == ("X",)


GOOD = {"question": QUESTION, "answer": "42"}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"question": QUESTION, "answr": "42"}, "no answers.*columns question, answr.*'answr'"),
        ({"quest": QUESTION, "answer": "42"}, "no question.*Did you mean 'quest'"),
        ({"question": "", "answer": "42"}, "question: it is empty"),
        ({"question": 5, "answer": "42"}, "question: expected text, found int 5"),
        ({"question": QUESTION, "answer": []}, "answers: there is none"),
        ({"question": QUESTION, "answer": [None]}, "expected a list of text"),
        ({"question": QUESTION, "answer": True}, "answers: expected"),
        ({"question": QUESTION, "answer": "1", "id": "search-x"}, "stands in an earlier row"),
    ],
)
def test_a_bad_row_says_file_row_field_and_columns(
    path: Path, bad: dict[str, Any], message: str
) -> None:
    write(path, {**GOOD, "id": "search-x"}, bad)
    with pytest.raises(ValueError, match=r"rows\.jsonl.*2.*: .*" + message):
        load_tasks(path, domain="search", mapping="search_qa")
    with pytest.warns(UserWarning, match=r"Skipped 1 bad rows; .*rows\.jsonl"):
        tasks = load_tasks(path, domain="search", mapping="search_qa", on_bad_row="skip")
    assert [task.answers for task in tasks] == [("42",)]


def own(**changes: object) -> dict[str, object]:
    return {"task_id": "a", "domain": "search", "question": QUESTION, "answers": ["x"], **changes}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (own(domain="math"), "the row says 'math', the caller 'search'"),
        (own(expert_trace=[{"kind": "thougt", "text": "x"}]), "kind is 'thougt'"),
        (own(expert_trace=[{"text": "x"}]), "list of {kind, text}"),
        (own(expert_trace=5), "it must be text or a list"),
        (own(tests=[{"kind": "cal"}]), "use call, stdio or assert"),
        (own(tests=[{"kind": "stdio", "input": "x"}]), "unknown input"),
        (own(level="3"), "level: expected a whole number"),
    ],
)
def test_a_bad_row_of_our_own_schema_names_the_field(
    path: Path, row: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        load_tasks(write(path, row), domain="search", mapping="maskgym")


@pytest.mark.parametrize(
    ("tests", "message"),
    [
        ("not json", "not JSON"),
        ({"inputs": [], "outputs": []}, "0 inputs"),
        ({"inputs": ["1"], "outputs": []}, "1 inputs, 0 outputs"),
        ({"input": ["1"]}, 'expected {"inputs"'),
        ({"fn_name": "f", "inputs": ["a b"], "outputs": ["1"]}, "arguments of f are not JSON"),
    ],
)
def test_bad_code_tests_say_what_they_should_be(path: Path, tests: object, message: str) -> None:
    write(path, {"question": QUESTION, "reward_model": {"ground_truth": tests}})
    with pytest.raises(ValueError, match=message):
        load_tasks(path, domain="code", mapping="smepo")


def test_columns_that_fit_no_preset_are_shown_with_the_presets(path: Path) -> None:
    write(path, {"frage": QUESTION, "antwort": "42"})
    with pytest.raises(ValueError, match=r"line 1: cannot guess .* antwort, frage .*smepo"):
        load_tasks(path, domain="math", on_bad_row="skip")
    with pytest.raises(ValueError, match="Did you mean 'search_qa'"):
        load_tasks(path, domain="search", mapping="serch_qa")


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_an_empty_file_is_an_error(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(ValueError, match=r"rows\.jsonl"):
        load_tasks(path, domain="math")


def test_only_bad_rows_are_an_error_even_when_skipped(path: Path) -> None:
    with (
        pytest.warns(UserWarning, match="Skipped 2"),
        pytest.raises(ValueError, match="no task among 2 bad rows"),
    ):
        load_tasks(
            write(path, {"question": ""}, {}), domain="math", mapping="gsm8k", on_bad_row="skip"
        )


def test_a_domain_that_does_not_fit_the_rows_is_an_error(path: Path) -> None:
    write(path, {"question": QUESTION, "answer": "#### 42"})
    with pytest.raises(ValueError, match="GSM8K rows are math tasks, not search"):
        load_tasks(path, domain="search", mapping="gsm8k")
    with pytest.raises(ValueError, match="on_bad_row is 'ignore'"):
        load_tasks(path, domain="math", on_bad_row="ignore")  # type: ignore[arg-type]


def test_each_preset_is_guessed_from_the_rows_it_is_for(shared_data: Path) -> None:
    for name, preset in (
        ("gsm8k/test.jsonl.gz", "gsm8k"),
        ("humaneval/HumanEval.jsonl.gz", "humaneval"),
        ("mbpp/mbpp.jsonl.gz", "mbpp"),
        ("popqa/popqa_1000.jsonl.gz", "search_qa"),
        ("hotpotqa/hotpot_dev_verl_format.jsonl.gz", "smepo"),
    ):
        with gzip.open(shared_data / name, "rt", encoding="utf-8") as file:
            assert guess_mapping(json.loads(next(file))) == preset
    assert guess_mapping(own()) == "maskgym"
    for name in ("fireact", "search_r1", "strategyqa", "math"):
        assert name in MAPPINGS
