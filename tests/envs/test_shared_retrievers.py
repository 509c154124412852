"""One index for all environments of a process, closed with the last of them."""

import gc
import os
from pathlib import Path

import pytest

from maskgym.envs import FictionalWorld, SearchEnv
from maskgym.envs.shared_retrievers import lease_retriever
from maskgym.retrieval import BM25Index, Passage

WORLD = FictionalWorld(level=1, size=3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    BM25Index.build(WORLD.passages()).save(tmp_path / "index")
    return tmp_path / "index"


def test_an_index_is_opened_once_and_closed_with_its_last_user(folder: Path) -> None:
    first, second = (SearchEnv(tasks=WORLD, retriever=folder) for _ in range(2))
    retriever = first.retriever
    assert second.retriever is retriever
    first.close()
    first.close()
    assert retriever.search(["mentor"], 1)
    second.close()
    with pytest.raises(ValueError, match="closed"):
        retriever.search(["spouse"], 1)
    third = SearchEnv(tasks=WORLD, retriever=str(folder))
    assert third.retriever is not retriever and third.retriever.search(["mentor"], 1)
    third.close()


def test_an_index_that_took_the_place_of_another_is_opened_anew(folder: Path) -> None:
    lease = lease_retriever(folder, timeout_s=None)
    BM25Index.build([Passage(id="new", text="mentor")]).save(folder)
    other = lease_retriever(folder, timeout_s=None)
    assert other.retriever is not lease.retriever
    assert [hit.passage.id for hit in other.retriever.search(["mentor"], 1)[0]] == ["new"]
    lease.close()
    other.close()


def test_an_environment_that_is_only_forgotten_does_not_keep_its_index(folder: Path) -> None:
    first = SearchEnv(tasks=WORLD, retriever=folder).retriever.fingerprint
    gc.collect()
    env = SearchEnv(tasks=WORLD, retriever=folder)
    assert env.retriever.fingerprint == first
    retriever = env.retriever
    env.close()
    with pytest.raises(ValueError, match="closed"):
        retriever.search(["mentor"], 1)


def test_an_environment_that_cannot_be_made_gives_its_index_back(folder: Path) -> None:
    lease = lease_retriever(folder, timeout_s=30.0)
    with pytest.raises(TypeError):
        SearchEnv(tasks=WORLD, retriever=folder, unknown=1)
    lease.close()
    with pytest.raises(ValueError, match="closed"):
        lease.retriever.search(["mentor"], 1)


def test_a_retriever_that_was_handed_in_stays_open() -> None:
    index = BM25Index.build(WORLD.passages())
    env = SearchEnv(tasks=WORLD, retriever=index)
    env.close()
    assert index.search(["mentor"], 1)


def test_a_folder_that_is_no_index_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        SearchEnv(tasks=WORLD, retriever=tmp_path / "nowhere")
    with pytest.raises((ValueError, FileNotFoundError)):
        SearchEnv(tasks=WORLD, retriever=tmp_path)


def test_a_forked_process_opens_the_index_for_itself(folder: Path) -> None:
    lease = lease_retriever(folder, timeout_s=None)
    child = os.fork()
    if child == 0:
        own = lease_retriever(folder, timeout_s=None)
        is_right = own.retriever is not lease.retriever and bool(own.retriever.search(["a"], 1))
        os._exit(0 if is_right else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert lease.retriever.search(["mentor"], 1)
    lease.close()
