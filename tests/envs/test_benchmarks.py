"""Benchmarks by name: local files in every layout, the hub's cache and server, and what is missing."""

import gzip
import json
import sys
import threading
import warnings
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from maskgym.envs import BENCHMARKS, Domain, SearchEnv, load_benchmark, load_benchmarks
from maskgym.envs import resolve_tasks as resolve
from maskgym.envs.benchmarks import benchmark_by_name, default_data_folder
from maskgym.retrieval import BM25Index, Passage

ROW = {
    "id": "test_7",
    "question": "Who sang Halo?",
    "golden_answers": ["Beyoncé", "Beyoncé Knowles"],
    "metadata": {},
}


def put(folder: Path, name: str, *rows: dict[str, Any]) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if name.endswith(".gz"):
        with gzip.open(path, "wt", encoding="utf-8") as file:
            file.write(text)
    else:
        path.write_text(text, encoding="utf-8")
    return path


def load_quietly(name: str, **settings: Any) -> list[Any]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*published split")
        return load_benchmark(name, **settings)


# What the evaluation of Search-R1 uses: of each data set of FlashRAG the test split, else dev, else
# train.
SEARCH_FILES = {
    "nq": "nq/test.jsonl",
    "triviaqa": "triviaqa/test.jsonl",
    "popqa": "popqa/test.jsonl",
    "hotpotqa": "hotpotqa/dev.jsonl",
    "2wikimultihopqa": "2wikimultihopqa/dev.jsonl",
    "musique": "musique/dev.jsonl",
    "bamboogle": "bamboogle/test.jsonl",
    "webquestions": "web_questions/test.jsonl",
    "ambigqa": "ambig_qa/dev.jsonl",
    "strategyqa": "strategyqa/train.jsonl",
}


@pytest.mark.parametrize(("name", "file"), SEARCH_FILES.items())
def test_each_search_benchmark_reads_the_file_that_search_r1_evaluates_on(
    tmp_path: Path, name: str, file: str
) -> None:
    benchmark = BENCHMARKS[name]
    assert (benchmark.hub_repo, benchmark.splits[0].hub_file) == (
        "RUC-NLPIR/FlashRAG_datasets",
        file,
    )
    assert (benchmark.domain, benchmark.metric) == (Domain.SEARCH, "exact_match")
    put(tmp_path, file, ROW)
    (task,) = load_quietly(name, data_folder=tmp_path, use_hub=False)
    assert task.task_id == f"{name}/test_7" and task.split == benchmark.split
    assert task.answers == ("Beyoncé", "Beyoncé Knowles")
    assert task.question == "Who sang Halo?"


@pytest.mark.parametrize(
    ("name", "split", "count", "first_id"),
    [
        ("nq", "", 3610, "nq/NQ-open-1"),
        ("triviaqa", "", 11313, "triviaqa/test_0"),
        ("triviaqa", "dev", 8837, "triviaqa/dev_0"),
        ("hotpotqa", "", 7405, "hotpotqa/hotpot_dev_v1_simplified-1"),
        ("strategyqa", "dev", 229, "strategyqa/e0044a7b4d146d611e73"),
        ("qed", "", 1355, "qed/qed-dev--3290814144789249484"),
        ("musique", "train100", 100, "musique/musique100-2hop__150763_14904"),
        ("gsm8k", "", 1319, "gsm8k/test-1"),
        ("aime24", "", 30, "aime24/60"),
        ("amc23", "", 40, "amc23/0"),
        ("humaneval", "", 164, "humaneval/HumanEval/0"),
        ("mbpp", "", 500, "mbpp/mbpp-11"),
        ("mbpp", "train", 374, "mbpp/mbpp-601"),
    ],
)
def test_real_files_give_the_published_number_of_tasks(
    shared_data: Path, name: str, split: str, count: int, first_id: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a wrong number would be said
        tasks = load_benchmark(name, split=split, data_folder=shared_data, use_hub=False)
    assert (len(tasks), tasks[0].task_id) == (count, first_id)
    assert len({task.task_id for task in tasks}) == count
    assert {task.split for task in tasks} == {split or BENCHMARKS[name].split}
    assert all(task.answers or task.tests for task in tasks)


def test_a_sample_of_a_benchmark_is_said_to_be_one(shared_data: Path) -> None:
    with pytest.warns(UserWarning, match="1000 questions; the published split has 14267"):
        tasks = load_benchmark("popqa", data_folder=shared_data)
    assert len(tasks) == 1000
    with pytest.warns(UserWarning, match="4 without an answer are left out"):
        assert len(load_benchmark("math", split="train", data_folder=shared_data)) == 7470


def test_both_forms_of_hotpotqa_ask_the_same(shared_data: Path, tmp_path: Path) -> None:
    (tmp_path / "hotpotqa").mkdir()
    name = "hotpotqa/hotpot_dev_verl_format.jsonl.gz"
    (tmp_path / name).symlink_to(shared_data / name)
    simplified = load_benchmark("hotpotqa", data_folder=shared_data, limit=50)
    verl = load_benchmark("hotpotqa", data_folder=tmp_path, limit=50)
    assert [(t.question, t.answers) for t in simplified] == [(t.question, t.answers) for t in verl]


def test_nq_topics_carry_the_ids_of_flashrag(shared_data: Path, tmp_path: Path) -> None:
    (tmp_path / "nq_open").mkdir()
    name = "nq_open/topics.dpr.nq.test.txt"
    (tmp_path / name).symlink_to(shared_data / name)
    tasks = {task.task_id: task for task in load_benchmark("nq", data_folder=tmp_path)}
    with gzip.open(
        shared_data / "search_r1_rollouts/v1_nq_2026_04_28_16_43_search_r1_base_seed1.json.gz"
    ) as file:
        rows = json.load(file)
    # The topics are tokenised ("who 's"), so only the letters are compared.
    letters = [
        [
            "".join(filter(str.isalnum, text))
            for text in (row["question"], tasks[f"nq/{row['id']}"].question)
        ]
        for row in rows
    ]
    assert all(ours == theirs for ours, theirs in letters)


def test_gold_passages_stand_in_the_corpus(shared_data: Path) -> None:
    tasks = load_benchmark("qed", data_folder=shared_data, limit=200)
    with gzip.open(shared_data / "wiki_passages/corpus.jsonl.gz", "rt", encoding="utf-8") as file:
        ids = {json.loads(line)["id"] for line in file}
    assert all(task.gold_passages and set(task.gold_passages) <= ids for task in tasks)


def test_missing_qrels_are_said(tmp_path: Path) -> None:
    put(tmp_path, "wiki_passages/queries.jsonl", {**ROW, "id": "qed-dev-1"}, ROW)
    with pytest.warns(UserWarning, match="gold passages are not known"):
        tasks = load_quietly("qed", data_folder=tmp_path)
    assert [task.task_id for task in tasks] == ["qed/qed-dev-1"]


def test_each_alias_is_paid(shared_data: Path) -> None:
    index = BM25Index.build([Passage(id="1", text="nothing")])
    for name in ("popqa", "triviaqa"):
        tasks = [t for t in load_quietly(name, data_folder=shared_data, limit=40)]
        env = SearchEnv(tasks=tasks, retriever=index)
        assert any(len(task.answers) > 1 for task in tasks)
        for task in tasks:
            for alias in task.answers[:3]:
                env.reset(options={"task": task})
                assert env.step(f"<answer> {alias} </answer>")[1] == 1.0


def test_a_gzipped_file_and_a_limit_will_do(tmp_path: Path) -> None:
    put(tmp_path, "nq/test.jsonl.gz", ROW, {**ROW, "id": "test_8"}, {**ROW, "id": "test_9"})
    tasks = load_benchmark("nq", data_folder=tmp_path, limit=2, use_hub=False)
    assert [task.task_id for task in tasks] == ["nq/test_7", "nq/test_8"]


def test_truth_values_of_strategyqa_are_yes_and_no(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"id": "a", "question": "q", "golden_answers": [True]},
        {"id": "b", "question": "q", "golden_answers": ["no"]},
        {"id": "c", "question": "q", "answer": False},
        {"id": "d", "question": "q", "golden_answers": ["True"]},
    ]
    put(tmp_path, "strategyqa/train.jsonl", *rows)
    tasks = load_quietly("strategyqa", data_folder=tmp_path)
    assert [task.answers for task in tasks] == [("yes",), ("no",), ("no",), ("yes",)]


def test_math_500_loads_with_its_solution_as_the_trace(tmp_path: Path) -> None:
    row = {
        "problem": "2+2?",
        "solution": "It is \\boxed{4}.",
        "answer": "4",
        "level": "Level 5",
        "unique_id": "test/algebra/1.json",
    }
    put(tmp_path, "math/test.jsonl", row)
    (task,) = load_quietly("math", data_folder=tmp_path)
    assert (task.task_id, task.answers, task.level) == ("math/test/algebra/1.json", ("4",), 5)
    assert task.expert_trace is not None and task.expert_trace.text == row["solution"]


# What a user may get wrong.


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(LookupError, match=r"No benchmark 'HotPotQA'\. Did you mean 'hotpotqa'"):
        benchmark_by_name("HotPotQA")
    with pytest.raises(LookupError, match=r"nq has no split 'tset'\. There are: test, dev, train"):
        load_benchmark("nq", split="tset")
    with pytest.raises(ValueError, match="limit is 0"):
        load_benchmark("nq", limit=0)


def test_a_bad_row_names_file_line_and_field(tmp_path: Path) -> None:
    put(tmp_path, "nq/test.jsonl", ROW, {**ROW, "id": "test_8", "question": ""})
    with pytest.raises(ValueError, match=r"nq/test\.jsonl, line 2: question: it is empty"):
        load_benchmark("nq", data_folder=tmp_path)


def test_the_data_folder_is_named_by_the_environment_or_lies_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MASKGYM_DATA", raising=False)
    assert default_data_folder() is None
    (tmp_path / "data").mkdir()
    assert default_data_folder() == Path("data")
    put(tmp_path / "elsewhere", "nq/test.jsonl", ROW)
    monkeypatch.setenv("MASKGYM_DATA", str(tmp_path / "elsewhere"))
    assert len(load_quietly("nq", use_hub=False)) == 1
    monkeypatch.setenv("MASKGYM_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"nowhere \(\$MASKGYM_DATA\)"):
        load_benchmark("nq")


def test_several_benchmarks_are_named_between_commas(tmp_path: Path) -> None:
    put(tmp_path, "nq/dev.jsonl", ROW)
    put(tmp_path, "hotpotqa/dev.jsonl", ROW, {**ROW, "id": "dev_8"})
    put(tmp_path, "gsm8k/test.jsonl", {"question": "2+2?", "answer": "#### 4"})
    with warnings.catch_warnings(record=True):
        loaded = load_benchmarks("nq:dev, hotpotqa", data_folder=tmp_path, domain=Domain.SEARCH)
    assert {name: len(tasks) for name, tasks in loaded.items()} == {"nq:dev": 1, "hotpotqa": 2}
    with pytest.raises(ValueError, match="gsm8k is a math benchmark, not a search one"):
        load_benchmarks("gsm8k", data_folder=tmp_path, domain=Domain.SEARCH)
    with pytest.raises(ValueError, match="names no benchmark"):
        load_benchmarks(" , ", data_folder=tmp_path)


# Where tasks are named by text.


def test_a_benchmark_can_stand_wherever_tasks_are_named(tmp_path: Path) -> None:
    put(tmp_path, "nq/test.jsonl", ROW, {**ROW, "id": "test_8"})
    put(tmp_path, "bamboogle/test.jsonl", ROW)
    spec = f"bench:nq,limit=1,data={tmp_path}"
    assert [task.task_id for task in resolve(spec, Domain.SEARCH)] == ["nq/test_7"]
    both = resolve(f"{spec}+bench:bamboogle,limit=1,data={tmp_path}", Domain.SEARCH)
    assert [task.task_id for task in both] == ["nq/test_7", "bamboogle/test_7"]
    index = BM25Index.build([Passage(id="1", text="x")])
    assert SearchEnv(tasks=spec, retriever=index).reset()[1]["task_id"] == "nq/test_7"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("bench:nq,size=3", "'size=3' in .* is no setting of a benchmark"),
        ("bench:nq,limit=few", "limit=few in .* needs a whole number"),
        ("bench:nq,limit=0", "limit is 0"),
        ("bench:gsm8k", "gsm8k is a math benchmark, not a search one"),
    ],
)
def test_a_bad_description_of_a_benchmark_says_how_to_write_it(spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve(spec, Domain.SEARCH)


# The hub.


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, and a hub that refuses connections."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return tmp_path / "hub"


def put_in_cache(cache: Path, file: str, *rows: dict[str, Any]) -> None:
    repo = cache / "datasets--RUC-NLPIR--FlashRAG_datasets"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs/main").write_text("a" * 40)
    put(repo / "snapshots" / ("a" * 40), file, *rows)


def test_without_file_and_hub_the_error_says_what_to_put_where(
    hub_cache: Path, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        load_benchmark("musique", data_folder=tmp_path)
    message = str(caught.value)
    assert "musique (dev): no file of it in" in message and "ConnectError" in message
    assert "datasets/RUC-NLPIR/FlashRAG_datasets/resolve/main/musique/dev.jsonl" in message
    assert str(tmp_path / "musique/dev.jsonl") in message and "$MASKGYM_DATA" in message


def test_another_split_that_is_there_is_offered_not_taken(hub_cache: Path, tmp_path: Path) -> None:
    put(tmp_path, "nq/dev.jsonl", ROW)
    with pytest.raises(
        FileNotFoundError, match="split dev is there: nq:dev, or bench:nq,split=dev"
    ):
        load_benchmark("nq", data_folder=tmp_path)


def test_a_split_that_no_hub_has_and_no_hub_at_all_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileNotFoundError, match="the hub has no file of this split") as caught:
        load_benchmark("qed", data_folder=tmp_path)
    assert str(tmp_path / "wiki_passages/qrels.tsv") in str(caught.value)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(FileNotFoundError, match="huggingface_hub is not installed"):
        load_benchmark("nq", data_folder=tmp_path)
    with pytest.raises(FileNotFoundError, match="the hub is not to be asked"):
        load_benchmark("nq", data_folder=tmp_path, use_hub=False)


def test_the_hubs_cache_is_used_without_network_and_a_local_file_wins(
    hub_cache: Path, tmp_path: Path
) -> None:
    put_in_cache(hub_cache, "nq/test.jsonl", {**ROW, "question": "From the hub?"})
    (task,) = load_quietly("nq", data_folder=tmp_path)
    assert (task.task_id, task.question) == ("nq/test_7", "From the hub?")
    put(tmp_path, "nq/test.jsonl", ROW)
    (task,) = load_quietly("nq", data_folder=tmp_path)
    assert task.question == "Who sang Halo?"


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as a download needs."""

    protocol_version = "HTTP/1.1"
    body = json.dumps({**ROW, "question": "From the server?"}).encode() + b"\n"
    wanted = "/datasets/RUC-NLPIR/FlashRAG_datasets/resolve/main/nq/test.jsonl"

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, *, with_body: bool) -> None:
        is_file = self.path in (self.wanted, self.wanted.replace("main", "b" * 40))
        self.send_response(200 if is_file or self.path == "/" else 404)
        self.send_header("Content-Length", str(len(self.body) if is_file else 0))
        if is_file:
            self.send_header("ETag", '"abc"')
            self.send_header("X-Repo-Commit", "b" * 40)
        self.end_headers()
        if with_body and is_file:
            self.wfile.write(self.body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def hub_url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_file_is_downloaded_from_a_hub_that_answers(
    hub_cache: Path, hub_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = "/{repo_id}/resolve/{revision}/{filename}"
    for name, value in (
        ("ENDPOINT", hub_url),
        ("HUGGINGFACE_CO_URL_TEMPLATE", hub_url + form),
        ("HF_HUB_DISABLE_XET", True),
    ):
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    (task,) = load_benchmark("nq", data_folder=tmp_path, limit=1)
    assert task.question == "From the server?"
    assert list(hub_cache.rglob("test.jsonl"))
