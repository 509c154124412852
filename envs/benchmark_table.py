"""In: nothing. Out: `BENCHMARKS`, where each named benchmark lives, its split, mapping and metrics.

Search QA follows the evaluation of Search-R1 (Jin et al. 2025, arXiv:2503.09516): the files of FlashRAG
(Jin et al. 2024, arXiv:2405.13576), of each data set the test split, else dev, else train, and exact
match. Numbers of rows are those of FlashRAG's list of data sets, or of the paper.
"""

from __future__ import annotations

from dataclasses import dataclass

from .mappings import MAPPINGS, ColumnMapping
from .tasks import Domain

FLASHRAG = "RUC-NLPIR/FlashRAG_datasets"


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchmarkFile:
    """A file below a data folder that holds a split, perhaps among other rows."""

    path: str
    """Below the data folder; the same name with `.gz` will do as well."""
    id_prefix: str = ""
    """Only the rows whose id begins so."""
    rows: tuple[int, int] | None = None
    """Only the rows from the first up to the second number, counted from 0; None for all."""
    row_ids: str = ""
    """What a row without an id is called, by its number from 0: "test_{}"."""
    qrels: str = ""
    """The file that names the gold passages of each question."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchmarkSplit:
    """One split of a benchmark."""

    name: str
    num_rows: int
    """As published; a local file may hold fewer."""
    hub_file: str = ""
    """In the hub's repository; empty where the hub has none."""
    files: tuple[BenchmarkFile, ...]
    """Where it may lie below a data folder; the first that is there counts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Benchmark:
    """A named set of questions to evaluate on."""

    name: str
    title: str
    domain: Domain
    splits: tuple[BenchmarkSplit, ...]
    """The first is the one to evaluate on."""
    mapping: ColumnMapping
    metrics: tuple[str, ...]
    """Names of the scores to report; the first is the one that papers compare."""
    source: str
    """The paper."""
    hub_repo: str = ""
    """The hub's repository of data; empty where it has none."""

    @property
    def split(self) -> str:
        """Name of the split to evaluate on."""
        return self.splits[0].name

    @property
    def num_rows(self) -> int:
        """Published size of the split to evaluate on."""
        return self.splits[0].num_rows

    @property
    def metric(self) -> str:
        """The score that papers compare."""
        return self.metrics[0]


_QA_METRICS = ("exact_match", "f1", "contains_answer")
_QUERIES = "wiki_passages/queries.jsonl"
_QRELS = "wiki_passages/qrels.tsv"


def _hub_split(
    folder: str, name: str, num_rows: int, *others: BenchmarkFile, hub_file: str = "{}/{}.jsonl"
) -> BenchmarkSplit:
    """A split that the hub has; locally it may lie as there, or in the form of `others`."""
    return BenchmarkSplit(
        name=name,
        num_rows=num_rows,
        hub_file=hub_file.format(folder, name),
        files=(BenchmarkFile(path=f"{folder}/{name}.jsonl"), *others),
    )


def _search(
    name: str, title: str, source: str, *splits: BenchmarkSplit, mapping: str = "search_qa"
) -> Benchmark:
    return Benchmark(
        name=name,
        title=title,
        domain=Domain.SEARCH,
        splits=splits,
        mapping=MAPPINGS[mapping],
        metrics=_QA_METRICS,
        source=source,
        hub_repo=FLASHRAG,
    )


def _judged(split: str, num_rows: int, prefix: str) -> BenchmarkSplit:
    """Questions whose gold passages stand in the corpus beside them."""
    file = BenchmarkFile(path=_QUERIES, id_prefix=prefix, qrels=_QRELS)
    return BenchmarkSplit(name=split, num_rows=num_rows, files=(file,))


_ALL = (
    _search(
        "nq",
        "Natural Questions",
        "https://aclanthology.org/Q19-1026/",
        _hub_split(
            "nq",
            "test",
            3610,
            BenchmarkFile(path="nq_open/NQ-open.dev.jsonl"),
            BenchmarkFile(path="nq_open/topics.dpr.nq.test.txt", row_ids="test_{}"),
        ),
        _hub_split("nq", "dev", 8757),
        _hub_split("nq", "train", 79168),
    ),
    _search(
        "triviaqa",
        "TriviaQA",
        "https://arxiv.org/abs/1705.03551",
        _hub_split(
            "triviaqa",
            "test",
            11313,
            BenchmarkFile(path="triviaqa/topics.dpr.trivia.test.txt", row_ids="test_{}"),
        ),
        _hub_split(
            "triviaqa",
            "dev",
            8837,
            BenchmarkFile(path="triviaqa/topics.dpr.trivia.dev.txt", row_ids="dev_{}"),
        ),
        _hub_split("triviaqa", "train", 78785),
    ),
    _search(
        "popqa",
        "PopQA",
        "https://arxiv.org/abs/2212.10511",
        _hub_split("popqa", "test", 14267, BenchmarkFile(path="popqa/popqa_1000.jsonl")),
    ),
    _search(
        "hotpotqa",
        "HotpotQA",
        "https://arxiv.org/abs/1809.09600",
        _hub_split(
            "hotpotqa",
            "dev",
            7405,
            BenchmarkFile(path="hotpotqa/hotpot_dev_v1_simplified.json"),
            BenchmarkFile(path="hotpotqa/hotpot_dev_verl_format.jsonl"),
        ),
        _hub_split("hotpotqa", "train", 90447),
        _judged("train100", 100, "hotpot100-"),
    ),
    _search(
        "2wikimultihopqa",
        "2WikiMultihopQA",
        "https://arxiv.org/abs/2011.01060",
        _hub_split("2wikimultihopqa", "dev", 12576),
        _hub_split("2wikimultihopqa", "train", 15000),
    ),
    _search(
        "musique",
        "MuSiQue",
        "https://arxiv.org/abs/2108.00573",
        _hub_split("musique", "dev", 2417),
        _hub_split("musique", "train", 19938),
        _judged("train100", 100, "musique100-"),
    ),
    _search(
        "bamboogle",
        "Bamboogle",
        "https://arxiv.org/abs/2210.03350",
        _hub_split("bamboogle", "test", 125),
    ),
    _search(
        "webquestions",
        "WebQuestions",
        "https://aclanthology.org/D13-1160/",
        _hub_split("web_questions", "test", 2032),
        _hub_split("web_questions", "train", 3778),
    ),
    _search(
        "ambigqa",
        "AmbigQA",
        "https://arxiv.org/abs/2004.10645",
        _hub_split("ambig_qa", "dev", 2002),
        _hub_split("ambig_qa", "train", 10036),
    ),
    _search(
        "strategyqa",
        "StrategyQA",
        "https://arxiv.org/abs/2101.02235",
        # The rows with labels; those of the dev split below are among them.
        _hub_split("strategyqa", "train", 2290),
        BenchmarkSplit(
            name="dev",
            num_rows=229,
            files=(
                BenchmarkFile(path="strategyqa/dev.jsonl"),
                BenchmarkFile(path="strategyqa/strategyqa_dev.json"),
            ),
        ),
        mapping="strategyqa",
    ),
    Benchmark(
        name="qed",
        title="QED questions with gold passages",
        domain=Domain.SEARCH,
        splits=(_judged("dev", 1355, "qed-dev-"), _judged("train", 7167, "qed-train-")),
        mapping=MAPPINGS["search_qa"],
        metrics=_QA_METRICS,
        source="https://arxiv.org/abs/2009.06354",
    ),
    Benchmark(
        name="gsm8k",
        title="GSM8K",
        domain=Domain.MATH,
        splits=(
            _hub_split("gsm8k", "test", 1319, hub_file="main/{1}-00000-of-00001.parquet"),
            _hub_split("gsm8k", "train", 7473, hub_file="main/{1}-00000-of-00001.parquet"),
        ),
        mapping=MAPPINGS["gsm8k"],
        metrics=("accuracy",),
        source="https://arxiv.org/abs/2110.14168",
        hub_repo="openai/gsm8k",
    ),
    Benchmark(
        name="math",
        title="MATH-500",
        domain=Domain.MATH,
        splits=(
            _hub_split("math", "test", 500, hub_file="{1}.jsonl"),
            BenchmarkSplit(
                name="train",
                num_rows=7474,
                files=(
                    BenchmarkFile(path="math/train.jsonl"),
                    BenchmarkFile(path="math_train7474/math_train.json"),
                ),
            ),
        ),
        mapping=MAPPINGS["math"],
        metrics=("accuracy",),
        source="https://arxiv.org/abs/2305.20050",
        hub_repo="HuggingFaceH4/MATH-500",
    ),
    Benchmark(
        name="aime24",
        title="AIME 2024",
        domain=Domain.MATH,
        splits=(
            _hub_split(
                "aime24",
                "train",
                30,
                BenchmarkFile(path="aime24/aime24.jsonl"),
                hub_file="data/{1}-00000-of-00001.parquet",
            ),
        ),
        mapping=MAPPINGS["math"],
        metrics=("accuracy",),
        source="https://huggingface.co/datasets/HuggingFaceH4/aime_2024",
        hub_repo="HuggingFaceH4/aime_2024",
    ),
    Benchmark(
        name="amc23",
        title="AMC 2023",
        domain=Domain.MATH,
        splits=(
            _hub_split(
                "amc23",
                "test",
                40,
                BenchmarkFile(path="amc23/amc23.jsonl"),
                hub_file="{1}-00000-of-00001.parquet",
            ),
        ),
        mapping=MAPPINGS["math"],
        metrics=("accuracy",),
        source="https://huggingface.co/datasets/math-ai/amc23",
        hub_repo="math-ai/amc23",
    ),
    Benchmark(
        name="humaneval",
        title="HumanEval",
        domain=Domain.CODE,
        splits=(
            _hub_split(
                "humaneval",
                "test",
                164,
                BenchmarkFile(path="humaneval/HumanEval.jsonl"),
                hub_file="openai_humaneval/{1}-00000-of-00001.parquet",
            ),
        ),
        mapping=MAPPINGS["humaneval"],
        metrics=("accuracy",),
        source="https://arxiv.org/abs/2107.03374",
        hub_repo="openai/openai_humaneval",
    ),
    Benchmark(
        name="mbpp",
        title="MBPP",
        domain=Domain.CODE,
        splits=(
            # Tasks 11 to 510 of the one original file are for testing, 601 to 974 for training.
            _hub_split(
                "mbpp",
                "test",
                500,
                BenchmarkFile(path="mbpp/mbpp.jsonl", rows=(10, 510)),
                hub_file="full/{1}-00000-of-00001.parquet",
            ),
            _hub_split(
                "mbpp",
                "validation",
                90,
                BenchmarkFile(path="mbpp/mbpp.jsonl", rows=(510, 600)),
                hub_file="full/{1}-00000-of-00001.parquet",
            ),
            _hub_split(
                "mbpp",
                "train",
                374,
                BenchmarkFile(path="mbpp/mbpp.jsonl", rows=(600, 974)),
                hub_file="full/{1}-00000-of-00001.parquet",
            ),
        ),
        mapping=MAPPINGS["mbpp"],
        metrics=("accuracy",),
        source="https://arxiv.org/abs/2108.07732",
        hub_repo="google-research-datasets/mbpp",
    ),
)

BENCHMARKS: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in _ALL}
"""All benchmarks by name."""
