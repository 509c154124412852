"""Files of questions as others publish them: topics, JSON by id, qrels."""

import gzip
import json
from pathlib import Path

import pytest

from maskgym.envs import load_tasks
from maskgym.envs.task_rows import read_qrels, read_task_rows


def test_topics_are_a_question_and_a_list_of_answers(tmp_path: Path) -> None:
    path = tmp_path / "topics.txt"
    path.write_text(
        "who got the prize\t['Wilhelm Conrad Röntgen']\n\n"
        '"""Who wrote """"Halo""""?"""\t"[\'""B"" eyoncé\', \'Knowles\']"\r\n',
        encoding="utf-8",
    )
    tasks = load_tasks(path, domain="search")
    assert [(task.task_id, task.question, task.answers) for task in tasks] == [
        ("topics-1", "who got the prize", ("Wilhelm Conrad Röntgen",)),
        ("topics-3", '"Who wrote ""Halo""?"', ('"B" eyoncé', "Knowles")),
    ]
    with gzip.open(tmp_path / "topics.tsv.gz", "wt", encoding="utf-8") as file:
        file.write("q\t('a', 'b')\n")
    assert load_tasks(tmp_path / "topics.tsv.gz", domain="search")[0].answers == ("a", "b")


@pytest.mark.parametrize(
    "line",
    [
        "no tab at all",
        "question\tnot a list",
        "question\t'text'",
        "question\t__import__('os').getcwd()",
        "question\t[",
        "question\t" + "[" * 5000,
    ],
    ids=range(6),
)
def test_a_bad_line_of_topics_is_named_and_never_run(tmp_path: Path, line: str) -> None:
    path = tmp_path / "topics.txt"
    path.write_text(f"good\t['a']\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"topics\.txt, line 2: expected a question, a tab"):
        load_tasks(path, domain="search")
    with pytest.warns(UserWarning, match=r"Skipped 1 bad rows; .*line 2"):
        assert len(load_tasks(path, domain="search", on_bad_row="skip")) == 1


def test_one_json_object_holds_rows_by_their_ids(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps({"b": {"question": "q", "answer": "x"}, "a": {"question": "r"}}))
    rows = list(read_task_rows(path))
    assert [row.row for row in rows] == [
        {"id": "b", "question": "q", "answer": "x"},
        {"id": "a", "question": "r"},
    ]
    with pytest.raises(ValueError, match=r"rows\.json, row 'a': no answers"):
        load_tasks(path, domain="search")
    path.write_text('{"question": "q", "answer": "x"}')
    with pytest.raises(ValueError, match="one object with the keys question, answer"):
        load_tasks(path, domain="search")


def test_a_file_that_is_not_there_is_an_error_in_each_layout(tmp_path: Path) -> None:
    for name in ("rows.json", "topics.txt", "rows.jsonl"):
        with pytest.raises(FileNotFoundError, match=name):
            load_tasks(tmp_path / name, domain="search")


def test_qrels_name_the_relevant_passages(tmp_path: Path) -> None:
    path = tmp_path / "qrels.tsv"
    path.write_text("q1\t0\tp2\t1\nq1 0 p1 2\nq2\t0\tp3\t0\n\nq3\t0\tp4\t1\n")
    assert read_qrels(path) == {"q1": ("p2", "p1"), "q3": ("p4",)}
    path.write_text("q1\t0\tp2\t1\nq1 p1 1\n")
    with pytest.raises(ValueError, match=r"qrels\.tsv, line 2: expected"):
        read_qrels(path)
