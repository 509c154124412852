import shlex
from pathlib import Path

import pytest

from maskgym.retrieval import load_index, write_rows
from maskgym.scripts import cli


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "my corpus.jsonl"
    rows = [
        {"id": "1", "title": "Röntgen", "text": "won the first prize in physics"},
        {"id": "2", "title": "", "text": "the second prize\nwas shared " + "by many " * 50},
    ]
    write_rows(path, rows)
    return path


def index(*arguments: object) -> int:
    return cli.main(["index", *map(str, arguments)])


def test_it_builds_says_what_it_made_and_how_to_try_it(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "index"
    assert index(corpus, folder, "--k1", 1.2, "--b", "0.75") == 0
    made, hint = capsys.readouterr().out.splitlines()
    assert made.startswith(f"{folder} (k1 = 1.2, b = 0.75): 2 passages in ")
    assert " s, " in made and made.endswith(" MB.")
    command = shlex.split(hint.removeprefix("Try it: maskgym "))
    assert cli.main([*command[:-1], "physics"]) == 0  # the hint itself works
    assert "Röntgen" in capsys.readouterr().out
    assert load_index(folder).search(["physics"], 1)[0][0].passage.id == "1"


def test_a_query_shows_hits_cut_to_the_line(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert index(corpus, tmp_path / "index", "--query", "second prize", "--top-k", 5) == 0
    _, first, second = capsys.readouterr().out.splitlines()
    assert first.split()[0] == "1" and "the second prize was shared" in first
    assert len(first) == 100
    assert second.split()[2:4] == ["1", "Röntgen:"]
    assert index(corpus, tmp_path / "index", "--query", "the of unheard") == 0
    assert "No passage has any word of this query" in capsys.readouterr().out


def test_an_index_that_is_there_is_searched_and_only_replaced_by_force(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "index"
    assert index(corpus, folder) == 0
    write_rows(corpus, [{"id": "3", "text": "a new physics"}])
    assert index(corpus, folder) == cli.EXIT_ERROR
    assert "already holds an index of 2 passages" in capsys.readouterr().err
    assert index(corpus, folder, "--query", "physics") == 0
    assert "is there already: 2 passages" in capsys.readouterr().out
    assert index(corpus, folder, "--query", "physics", "--k1", 2) == cli.EXIT_ERROR
    assert "k1 = 0.9, not 2.0" in capsys.readouterr().err
    assert index(corpus, folder, "--force") == 0
    assert load_index(folder).search(["physics"], 1)[0][0].passage.id == "3"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["no.jsonl", "index"], "No file"),
        (["{corpus}", "."], "is no index; it stays as it is"),
        (["{corpus}", "index", "--k1", "-1"], "k1 is -1.0"),
        (["{corpus}", "index", "--b", "2"], "b is 2.0"),
        (["{corpus}", "index", "--top-k", "0"], "--top-k is 0"),
        (["{empty}", "index"], "no passages"),
        (["{bad}", "index"], "bad.jsonl, line 2: no id"),
    ],
)
def test_what_cannot_be_done_is_one_line_on_stderr_and_leaves_no_index(
    corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    complaint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    files = {"corpus": corpus, "empty": tmp_path / "empty.jsonl", "bad": tmp_path / "bad.jsonl"}
    files["empty"].write_text("")
    write_rows(files["bad"], [{"id": "1", "text": "x"}, {"text": "y"}])
    assert index(*(argument.format(**files) for argument in arguments)) == cli.EXIT_ERROR
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "index").exists()


def test_bad_rows_are_skipped_when_asked(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"id": "1", "text": "x"}\n{"text": "y"}\nnonsense\n')
    with pytest.warns(UserWarning, match="Skipped 1 bad"):
        assert index(tmp_path / "bad.jsonl", tmp_path / "index", "--skip-bad-rows") == 0
    assert len(load_index(tmp_path / "index").search(["x"], 5)[0]) == 1
