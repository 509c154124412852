"""Fixture of the Lucene tests: Python source in a process of its own, which may start Java.

A process with a Java machine can no more be forked safely, and other tests fork.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from maskgym.retrieval.jvm import find_jar, find_java

PREAMBLE = """
import json, random, sys, threading
from pathlib import Path
from maskgym.retrieval import BM25Config, BM25Index, Passage, Retriever, load_index
from maskgym.retrieval.jvm import java_class, start_jvm
from maskgym.retrieval.lucene import LuceneIndex

folder = Path(sys.argv[1])
PASSAGES = [
    Passage(id="ä'😀", title="Marie Curie", text="won two Nobel prizes, in physics and chemistry."),
    Passage(id="b", title="Prize\\nwinners", text="A title of two lines."),
    Passage(id="a", text="Winning the prize 😀\\x00 twice"),
    Passage(id="empty", text=""),
    Passage(id="c", title='"Quoted"', text='"Not a title"\\nof prizes'),
    Passage(id="d", text="Röntgen's x-rays: U.S.A., 3.14 and can't"),
]
QUERIES = ["prize winners", "röntgen", "x-rays 3.14", "usa U.S.A.", "title of two lines",
           "who won the nobel prize in physics?", "quoted chemistry"]


def random_passages(number, seed=3):
    rng = random.Random(seed)
    words = [f"w{n}" for n in range(300)]
    weights = [1 / (n + 3) for n in range(300)]
    ids = rng.sample(range(10 * number), number)
    return [
        Passage(id=f"d{i}", text=" ".join(rng.choices(words, weights, k=rng.randrange(1, 40))))
        for i in ids
    ]


def random_queries(number, seed=4):
    rng = random.Random(seed)
    return [" ".join(f"w{rng.randrange(300)}" for _ in range(rng.randrange(1, 6)))
            for _ in range(number)]


def ids(found):
    return [[hit.passage.id for hit in hits] for hits in found]


def refuses(kind, words, call):
    try:
        call()
    except kind as error:
        assert words in str(error), error
    else:
        raise AssertionError(f"{words!r} was not refused")


"""


@pytest.fixture
def java_process(tmp_path: Path) -> Callable[..., str]:
    """Runs Python source after the preamble in a process of its own; gives what it printed."""
    try:
        find_jar()
        find_java()
    except (ImportError, ValueError) as error:
        pytest.skip(f"needs Anserini's jar and Java 21: {error}")

    def run(source: str, *arguments: object) -> str:
        script = tmp_path / "script.py"
        script.write_text(PREAMBLE + source)
        process = subprocess.run(
            [sys.executable, script, *map(str, [tmp_path, *arguments])],
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert process.returncode == 0, process.stderr + process.stdout
        assert process.stderr == ""  # neither Java nor Anserini talks
        return process.stdout

    return run
