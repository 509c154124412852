"""Compat: public texts in, whether `smepo_compat` writes what the released masker writes out."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from maskgym.envs import Domain, Task
from maskgym.masking import POLICIES, mask

from .code_traces import STYLES, humaneval, mbpp
from .released_masker import ReleasedMasker
from .tables import Table
from .trace_sets import rows_of

_PIECES = (
    *("Step ", "step 3", "CASE  4", "Round\n2", "subcase 1a", "lemma 5", "Steps 2", "Step\t7."),
    *("1", "23", "4.5", ".5", "5.", "-.5", "1.2.3", "1/2", "e-7", "1e-5", "E5", "%", "\\%"),
    *("+", "-", "=", " ", "  ", "\n", "\r\n", "\t", "/-", "/ +", "- 3", "$", ".", "a", "x_1"),
    *("\\frac", "\\dfrac", "\\Tfrac", "\\cfrac", "\\frac {1} {2}", "\\sqrt", "\\sqrt [2] {3}"),
    *("{", "}", "[", "]", "{1}", "{a2}", "{x}", "{-3}", "{{1}}", "[3]", "{ -3 }"),
    *("\\times", "\\times ", "\\times 10^{", " \\times 10^{6}", "10", "10^", "10 ^ { ", "^"),
    *("```", "``` ", "```py\n", "```  \n", "python", "\u0663", "\uff13", "\u00bd"),
    *("[NUMBER]", "[CODE]", "__STRUCTURAL_NUMBER_0__", "[\\NUMBER]"),
)
NUM_RANDOM = 100_000


def measure_compat(data: Path, released: ReleasedMasker, limit: int | None) -> list[Table]:
    """Texts of each set, those that differ, and the digests of both outputs."""
    table = Table(
        title="smepo_compat against the released behaviour",
        columns=("texts", "domain", "num", "differ", "released sha256", "ours sha256"),
        notes=[f"`released`: {released.source}."],
    )
    if "smepo_compat" not in POLICIES:
        table.notes.append("There is no policy smepo_compat yet; not measured.")
        return [table]
    for name, domain, texts in _text_sets(data, NUM_RANDOM if limit is None else limit):
        digests = [hashlib.sha256(), hashlib.sha256()]
        num = num_different = 0
        try:
            for text in islice(texts, limit):
                task = Task(task_id=str(num), question="How many?", answers=("7",), domain=domain)
                theirs = released.mask(text, domain)
                ours = mask(text, task, "smepo_compat").text
                for digest, masked in zip(digests, (theirs, ours), strict=True):
                    digest.update(masked.encode(errors="surrogatepass") + b"\0")
                num += 1
                if theirs != ours:
                    num_different += 1
                    if num_different == 1:
                        table.notes.append(f"{name}, the first that differs: {text[:200]!r}")
        except FileNotFoundError as error:
            table.notes.append(f"{name}: no file {error.filename}; left out.")
            continue
        table.add(
            name, str(domain), num, num_different, *(digest.hexdigest()[:16] for digest in digests)
        )
    return [table]


def _text_sets(data: Path, num_random: int) -> Iterator[tuple[str, Domain, Iterable[str]]]:
    gsm8k, math = data / "gsm8k", data / "math_train7474" / "math_train.json.gz"
    for split in ("train", "test"):
        path = gsm8k / f"{split}.jsonl.gz"
        yield f"GSM8K {split} solutions", Domain.MATH, _fields(path, "answer")
        yield f"GSM8K {split} questions", Domain.MATH, _fields(path, "question")
    yield "MATH training problems and answers", Domain.MATH, _fields(math, "problem", "answer")
    for name, read in (("HumanEval", humaneval), ("MBPP", mbpp)):
        yield f"{name}, all styles", Domain.CODE, _styled(data, read)
    for domain in (Domain.MATH, Domain.CODE):
        yield "random pieces", domain, _random_texts(num_random)


def _fields(path: Path, *names: str) -> Iterator[str]:
    for row in rows_of(path):
        yield "\n".join(str(row[name]) for name in names)


def _styled(data: Path, read: object) -> Iterator[str]:
    assert callable(read)
    for style in STYLES:
        for case in read(data, style):
            yield case.trace.text


def _random_texts(num: int) -> Iterator[str]:
    rng = random.Random(3)
    for _ in range(num):
        yield "".join(rng.choices(_PIECES, k=rng.randint(1, 14)))
