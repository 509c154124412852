import gzip
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from maskgym.envs import Domain, Task
from maskgym.masking import ExpertTrace, RenderConfig, TraceTurn, TurnKind
from maskgym.masking.render import render_turn
from maskgym.masking.smepo_compat import smepo_compat

CONFIG = RenderConfig(escape_literals=False)


def masked(text: str, domain: Domain = Domain.MATH) -> str:
    task = Task(task_id="t", question="3?", answers=("7",), domain=domain)
    return render_turn(text, smepo_compat(ExpertTrace.from_text(text), (), task), CONFIG)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Step 3: use 4", "__STRUCTURAL_NUMBER_[NUMBER]__: use [NUMBER]"),
        ("CASE\t 12, part 3", "__STRUCTURAL_NUMBER_[NUMBER]__, __STRUCTURAL_NUMBER_[NUMBER]__"),
        ("Steps 3, Step 3a, a substep 3", "Steps [NUMBER], Step [NUMBER]a, a substep [NUMBER]"),
        ("step 3.5", "__STRUCTURAL_NUMBER_[NUMBER]__[NUMBER]"),
        ("3+4=7, x-1, GPT-4", "[NUMBER][NUMBER]=[NUMBER], x[NUMBER], GPT[NUMBER]"),
        ("--3 + .5 and 5.", "-[NUMBER] + [NUMBER] and [NUMBER]."),
        ("1,234,567 H2O", "[NUMBER],[NUMBER],[NUMBER] H[NUMBER]O"),
        ("3 / -4.5, 50 %, 1e-5, 1/2e5", "[NUMBER], [NUMBER], [NUMBER], [NUMBER]e[NUMBER]"),
        (r"2.5 \times 10^{-3} and 10^{6}", "[NUMBER] and [NUMBER]^{[NUMBER]}"),
        (r"2 \times 10 ^ 6} and 2 \times 11^2", r"[NUMBER] and [NUMBER] \times [NUMBER]^[NUMBER]"),
        (r"\frac{1}{2} \dfrac {a1} {2b} \Tfrac{3}{4}", "[NUMBER] [NUMBER] [NUMBER]"),
        (r"\frac{a}{2} \frac12", r"\frac{a}{[NUMBER]} \frac[NUMBER]"),
        (r"\cfrac{1}{2}", r"\cfrac{[NUMBER]}{[NUMBER]}"),
        (r"\frac{\sqrt{2}}{2}", r"\frac{[NUMBER]}{[NUMBER]}"),
        (
            r"\sqrt{2} \sqrt[3]{x8} \sqrt[n]{2} \sqrt{x}",
            r"[NUMBER] [NUMBER] \sqrt[n]{[NUMBER]} \sqrt{x}",
        ),
        (r"\frac{Step 1}{2}", "[NUMBER]"),
        ("seven \u00bd \u00b2 \u0663 \uff13", "seven \u00bd \u00b2 [NUMBER] [NUMBER]"),
        ("", ""),
    ],
)
def test_text_reads_as_the_released_masker_writes_it(text: str, shown: str) -> None:
    assert masked(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\n```python\nx = 1\n```\nb 2", "a\n```python\n[CODE]\n```\nb 2"),
        ("``` py x \r\nx\n```", "```py x\n[CODE]\n```"),
        ("```\n```", "```\n[CODE]\n```"),
        ("````md\n```py\nx\n```\n````", "````md\n[CODE]\n```py\nx\n```\n[CODE]\n````"),
        ("```py\nx", "```py\nx"),
        ("~~~\nx\n~~~ `y` ```z``` 3", "~~~\nx\n~~~ `y` ```z``` 3"),
        ('```\n"""``` """\nx\n```', '```\n[CODE]\n``` """\nx\n```'),
    ],
)
def test_code_reads_as_the_released_masker_writes_it(text: str, shown: str) -> None:
    assert masked(text, Domain.CODE) == shown


def test_a_search_is_left_as_it_is_and_turns_are_read_one_by_one() -> None:
    assert masked("Step 3: 4", Domain.SEARCH) == "Step 3: 4"
    turns = tuple(TraceTurn(kind=TurnKind.THOUGHT, text=text) for text in ("1", "step", "2"))
    task = Task(task_id="t", question="?")
    spans = smepo_compat(ExpertTrace(turns=turns), (), task)
    assert [(span.turn, span.value) for span in spans] == [(0, "1"), (2, "2")]
    assert smepo_compat.is_verbatim  # type: ignore[attr-defined]


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as lines:
        for line in lines:
            yield json.loads(line)


def texts_of(name: str, data: Path) -> Iterator[str]:
    if name.startswith("gsm8k"):
        _, part, field = name.split()
        yield from (row[field] for row in rows_of(data / "gsm8k" / f"{part}.jsonl.gz"))
    elif name == "math train problem":
        with gzip.open(data / "math_train7474" / "math_train.json.gz", "rt", encoding="utf-8") as f:
            yield from (row["problem"] for row in json.load(f))
    elif name.startswith("mint"):
        for path in sorted((data / "mint_traces").glob("*_*.jsonl.gz")):
            for row in rows_of(path):
                yield from (message["content"] for message in row["state"]["history"])
    else:
        for row in rows_of(data / "humaneval" / "HumanEval.jsonl.gz"):
            program = row["prompt"] + row["canonical_solution"]
            yield f"The idea is simple.\n```python\n{program}```\nIt runs in 1 step."


def digest(texts: Iterable[str]) -> tuple[int, str]:
    """How many texts there are, and the SHA-256 of all of them, each with a zero byte behind it."""
    count, found = 0, hashlib.sha256()
    for text in texts:
        count += 1
        found.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return count, found.hexdigest()


# What the released file (mit-han-lab/SMEPO @4c14a0b, scripts/masking/semantic_masking.py) itself
# wrote for these texts; its math function, or its code function where the domain says so.
RELEASED = [
    (
        *("gsm8k train answer", Domain.MATH, 7473),
        "7b82721d77905e45010149e48c9dd6da603368a7f4b582d2cc132f37d781d3ec",
    ),
    (
        *("gsm8k train question", Domain.MATH, 7473),
        "312a1dd754df64f0ced14c5435b69f482bec7d54baadaa60977dc20f15f1c4f0",
    ),
    (
        *("gsm8k test answer", Domain.MATH, 1319),
        "11f577e3159f053c997d460dd2521e388b8e7853cdf1d13c4bb8e06c5a4e6002",
    ),
    (
        *("gsm8k test question", Domain.MATH, 1319),
        "9cea2c6e504c98afdc42546fe587a7caa15d45f5db213f4273f4b55410d267a8",
    ),
    (
        *("math train problem", Domain.MATH, 7474),
        "3b3e7b2c6fa9bd8e3789b060651a26c355809281c98f5d8e5a08486463cd1e24",
    ),
    (
        *("mint", Domain.MATH, 7184),
        "64ee2a922b9440023058b540946ae9de9984c8c7ca2a179e52e56a0fdb0f7fb8",
    ),
    (
        *("mint", Domain.CODE, 7184),
        "4b2fe52854c7cf9a02f6fc1694846f67311ed652a2cd9a67e9214c9c0e472919",
    ),
    (
        *("humaneval", Domain.CODE, 164),
        "f65627533d2537b792b3accc21f6fe4353cd7a138e0876f3735a1fa732d2c28e",
    ),
]


@pytest.mark.parametrize(("name", "domain", "num_texts", "released"), RELEASED)
def test_real_texts_come_out_byte_for_byte_as_from_the_released_masker(
    shared_data: Path, name: str, domain: Domain, num_texts: int, released: str
) -> None:
    shown = (masked(text, domain) for text in texts_of(name, shared_data))
    assert digest(shown) == (num_texts, released)


@pytest.mark.parametrize(
    "piece",
    [r"\frac{1", r"\frac{1}{1", r"\sqrt[1", r"\sqrt[1]{1", "step ", "step 1 ", "1" * 8, "```py\n"],
)
def test_time_grows_with_the_length_where_the_released_masker_is_cubic(
    piece: str, cpu_seconds: Callable[[Callable[[], object]], float]
) -> None:
    def seconds(num_characters: int) -> float:
        text = piece * (num_characters // len(piece))
        return cpu_seconds(lambda: masked(text, Domain.CODE if "`" in piece else Domain.MATH))

    assert seconds(240_000) < 12 * max(seconds(60_000), 0.01)
