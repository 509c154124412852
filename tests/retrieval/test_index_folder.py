import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskgym.retrieval import BM25Index, Passage, load_index
from maskgym.retrieval.index_folder import METADATA_FILE, locked, read_index_metadata


def save(folder: Path, text: str = "first version") -> None:
    BM25Index.build([Passage(id="1", text=text)]).save(folder)


def found(folder: Path, query: str) -> int:
    return len(load_index(folder).search([query], 1)[0])


def rewrite(folder: Path, **changes: Any) -> None:
    content = json.loads((folder / METADATA_FILE).read_text())
    (folder / METADATA_FILE).write_text(json.dumps({**content, **changes}))


def test_a_new_index_replaces_the_old_one_whole(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "on" / "the" / "way"
    save(folder)
    opened = load_index(folder)
    save(folder, "second edition")
    assert (found(folder, "version"), found(folder, "edition")) == (0, 1)
    assert len(opened.search(["version"], 1)[0]) == 1  # who has the old one open keeps it
    assert [entry.name for entry in folder.parent.iterdir()] == ["way"]


def test_a_full_disk_leaves_the_old_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "index")
    real_save, calls = np.save, []

    def save_until_full(path: Path, array: Any, **options: Any) -> None:
        calls.append(path)
        if len(calls) == 5:
            raise OSError("64 requested and 0 written")
        real_save(path, array, **options)

    monkeypatch.setattr(np, "save", save_until_full)
    with pytest.raises(OSError, match=r"room on the disk.*Nothing that was there has changed"):
        save(tmp_path / "index", "second edition")
    assert found(tmp_path / "index", "version") == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["index"]


def test_a_killed_builder_leaves_the_old_index(tmp_path: Path) -> None:
    save(tmp_path / "index")
    program = """
import os, signal, sys
import numpy as np
from maskgym.retrieval import BM25Index, Passage
real_save, calls = np.save, []
def save_until_killed(path, array, **options):
    real_save(path, array, **options)
    calls.append(path)
    if len(calls) == 9:
        os.kill(os.getpid(), signal.SIGKILL)
np.save = save_until_killed
BM25Index.build([Passage(id="1", text="second edition")]).save(sys.argv[1])
"""
    for folder in (tmp_path / "index", tmp_path / "new"):
        done = subprocess.run([sys.executable, "-P", "-c", program, str(folder)], check=False)
        assert done.returncode == -signal.SIGKILL
    assert found(tmp_path / "index", "version") == 1
    assert not (tmp_path / "new").exists()


def test_a_failed_renaming_brings_the_old_index_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "index")
    import os

    from maskgym.retrieval import index_folder

    monkeypatch.setattr(index_folder, "_exchange", lambda one, other: False)
    real_rename = os.rename

    def rename(source: Path, target: Path) -> None:
        if str(source).endswith(".partial"):
            raise OSError("no")
        real_rename(source, target)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(OSError, match="Nothing that was there has changed"):
        save(tmp_path / "index", "second edition")
    assert found(tmp_path / "index", "version") == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["index"]


def test_a_folder_with_other_files_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="is no index; it stays"):
        save(tmp_path)
    with pytest.raises(ValueError, match="is a file"):
        save(tmp_path / "thesis.tex")
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    (tmp_path / "empty").mkdir()
    save(tmp_path / "empty")
    assert found(tmp_path / "empty", "version") == 1


def test_what_is_no_index_is_refused_with_what_to_do(tmp_path: Path) -> None:
    save(tmp_path / "wiki-index")
    with pytest.raises(FileNotFoundError, match=r"Did you mean .*wiki-index\?"):
        load_index(tmp_path / "wiki-indx")
    with pytest.raises(FileNotFoundError, match="maskgym index CORPUS INDEX"):
        load_index(tmp_path / "zzz" / "q")
    with pytest.raises(ValueError, match=r"it has no metadata\.json"):
        load_index(tmp_path)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"format_version": 1}, "format version 1; this maskgym reads version 2.*--force"),
        ({"format_version": None}, "format version None"),
        ({"surprise": 1}, "cannot be read"),
        ({"parameters": {"analyzer": "other-1"}}, "tokenised by 'other-1'"),
        ({"parameters": {"analyzer": "lucene-english-1"}}, "lacks 'k1'"),
        ({"files": {}}, "lacks 'files'"),
        ({"files": {"000001.documents.npy": 0}}, "lacks 'passage_content'"),
    ],
)
def test_metadata_of_another_version_is_refused(
    tmp_path: Path, changes: dict[str, Any], complaint: str
) -> None:
    save(tmp_path / "index")
    rewrite(tmp_path / "index", **changes)
    with pytest.raises(ValueError, match=complaint):
        load_index(tmp_path / "index")


def test_damaged_files_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    for name in ("000001.documents", "000001.passage_content", "000001.terms"):
        save(folder)
        path = folder / f"{name}.npy"
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        with pytest.raises(ValueError, match=rf"{name}\.npy has \d+ bytes instead of \d+.*--force"):
            load_index(folder)
        path.write_bytes(b"\0" * len(whole))
        with pytest.raises(ValueError, match=rf"{name}\.npy is damaged.*--force"):
            load_index(folder)
        path.unlink()
        with pytest.raises(ValueError, match=rf"lacks its file {name}\.npy.*--force"):
            load_index(folder)
    save(folder)
    for text in ("{", "[]", "{}", "\x00"):
        (folder / METADATA_FILE).write_text(text)
        with pytest.raises(ValueError, match=r"metadata\.json cannot be read.*--force"):
            load_index(folder)


def test_where_folders_cannot_be_exchanged_they_are_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from maskgym.retrieval import index_folder

    monkeypatch.setattr(index_folder, "_exchange", lambda one, other: False)
    save(tmp_path / "index")
    save(tmp_path / "index", "second edition")
    assert found(tmp_path / "index", "edition") == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["index"]


BUILD_AND_DIE = """
import os, signal, sys
from maskgym.retrieval import BM25Index, Passage
def passages():
    yield Passage(id="1", text="second edition")
    os.kill(os.getpid(), signal.SIGKILL)
BM25Index.build(passages(), folder=sys.argv[1])
"""


def test_what_a_killed_builder_left_is_no_index_and_goes_with_the_next_build(
    tmp_path: Path,
) -> None:
    save(tmp_path / "index")
    for folder in (tmp_path / "index", tmp_path / "new"):
        command = [sys.executable, "-P", "-c", BUILD_AND_DIE, str(folder)]
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
        (partial,) = tmp_path.glob(f".{folder.name}.*.partial")
        assert any(partial.iterdir())
        with pytest.raises(
            ValueError, match=rf"no index: it is of a build of {folder} that was kil"
        ):
            load_index(partial)
    with pytest.raises(FileNotFoundError, match=r"A build of it was killed.* build it again"):
        load_index(tmp_path / "new")
    assert found(tmp_path / "index", "version") == 1
    save(tmp_path / "index", "third edition")
    save(tmp_path / "new")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["index", "new"]


def test_a_build_under_way_is_left_alone_by_another(tmp_path: Path) -> None:
    def passages() -> Iterator[Passage]:
        yield Passage(id="1", text="slow edition")
        save(tmp_path / "index", "quick edition")
        assert found(tmp_path / "index", "quick") == 1
        yield Passage(id="2", text="the end")

    BM25Index.build(passages(), folder=tmp_path / "index")
    assert (found(tmp_path / "index", "slow"), found(tmp_path / "index", "quick")) == (1, 0)
    assert [entry.name for entry in tmp_path.iterdir()] == ["index"]


def test_a_full_disk_while_building_leaves_the_old_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from maskgym.retrieval import bm25_arrays

    save(tmp_path / "index")

    def no_room(self: Any, name: str, piece: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bm25_arrays.FolderSink, "append", no_room)
    with pytest.raises(OSError, match=r"No space left.*room on the disk.*Nothing that was there"):
        BM25Index.build([Passage(id="1", text="second")], folder=tmp_path / "index")
    assert found(tmp_path / "index", "version") == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["index"]


WITH_LITTLE_ROOM = """
import json, resource, sys
from pathlib import Path
from maskgym.retrieval import BM25Index, Passage
passages = [Passage(id=f"new{n}", text=f"second edition {n} " + "of words " * 50) for n in range(2000)]
there, new = (Path(sys.argv[1], name) for name in ("index", "new"))
tasks = {
    "build anew": lambda: BM25Index.build(passages, folder=new),
    "build": lambda: BM25Index.build(passages, folder=there),
    "save": lambda: BM25Index.build(passages).save(there),
    "append": lambda: BM25Index.load(there).append(passages),
}
for room_bytes in (300, 20_000, 400_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (room_bytes, resource.RLIM_INFINITY))
    for name, task in tasks.items():
        try:
            task()
        except OSError as error:
            print(f"{room_bytes} {name}: {error}")
        BM25Index.load(there).search(["version"], 1)[0][0]
"""


def test_files_that_may_not_grow_are_told_and_the_old_index_stays(tmp_path: Path) -> None:
    """The system's own limit: at the metadata, at the small arrays, at the texts."""
    save(tmp_path / "index")
    command = [sys.executable, "-P", "-c", WITH_LITTLE_ROOM, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    told = done.stdout.splitlines()
    assert len(told) == 12
    for line in told:
        assert "File too large" in line or "requested and" in line
        assert "Is there room on the disk" in line
    assert (found(tmp_path / "index", "version"), found(tmp_path / "index", "edition")) == (1, 0)
    assert [entry.name for entry in tmp_path.iterdir()] == ["index"]
    known = {*read_index_metadata(tmp_path / "index").files, METADATA_FILE}
    assert {entry.name for entry in (tmp_path / "index").iterdir()} == known


def test_a_folder_being_changed_is_not_replaced_meanwhile(tmp_path: Path) -> None:
    save(tmp_path / "index")
    busy = pytest.raises(ValueError, match="is being changed by another process")
    with locked(tmp_path / "index"), busy:
        save(tmp_path / "index", "second edition")
    save(tmp_path / "index", "second edition")
    assert found(tmp_path / "index", "edition") == 1
