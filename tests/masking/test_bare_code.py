import gzip
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from maskgym.envs import Domain, Task
from maskgym.masking.code import find_code
from maskgym.masking.traces import TraceTurn, TurnKind


def spans_of(text: str, domain: Domain = Domain.CODE) -> list[tuple[int, int, str]]:
    task = Task(task_id="t", question="?", domain=domain)
    spans = find_code(TraceTurn(kind=TurnKind.THOUGHT, text=text), task)
    return sorted((span.start, span.end, span.detector) for span in spans)


def masked(text: str, domain: Domain = Domain.CODE) -> str:
    pieces, at = [], 0
    for start, end, form in spans_of(text, domain):
        pieces += [text[at:start], f"[{form.removeprefix('code:')}]"]
        at = end
    return "".join([*pieces, text[at:]])


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("So:\ndef f(x):\n    # why\n\n    return x\n\nprint(f(3))\nDone.", "So:\n[bare]\nDone."),
        ("So:\n\n    def f(x):\n        return x\n\nDone.", "So:\n\n    [indented]\n\nDone."),
        ("- def f(x):\n      return x\n- next", "- [bare]\n- next"),
        ("> def f(x):\n>     return x\n> next", "> [bare]\n> next"),
        ("Solution: def f(x):\n    return x\nDone", "Solution: [bare]\nDone"),
        ("So:\n>>> f(3)\n4\n>>> f(4)\n5\n\nDone", "So:\n[bare]\n\nDone"),
        ("import math\nr = math.sqrt(x)\nIt is r.", "[bare]\nIt is r."),
        ("try:\n    x = f(a)\nexcept KeyError:\n    pass\nDone.", "[bare]\nDone."),
        ("x = {\n  'a': f(b,\n c),\n}\nDone.", "[bare]\nDone."),
        ('x = """\nany text\n"""\nprint(x)\nDone.', "[bare]\nDone."),
        ("#include <map>\nint main() {\n  return 0;\n}\nDone.", "[bare]\nDone."),
        ("def f(x)\nfor i in range(x)\nreturn x +\nDone.", "[bare]\nDone."),
        ("def f(x):\r\n\treturn x\r\nDone.", "[bare]\r\nDone."),
    ],
)
def test_a_program_without_marks_is_found(text: str, wanted: str) -> None:
    assert masked(text) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Let dp[i] = max(dp[i-1], dp[i-2] + a[i]); return dp[n]", "Let [bare]; [bare]"),
        ("We set mid = (lo + hi) // 2 and go.", "We set [bare] and go."),
        ("Then return a if a > b else b.", "Then [bare]."),
    ],
)
def test_pseudo_code_in_a_sentence_is_found(text: str, wanted: str) -> None:
    assert masked(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "Return the list to its owner.\nimport duties fell\nfor each item in the list: count it",
        "we return voyage in January",
        "If so:\n  we stop here",
        "Note: this is it\nAnswer: x\n(B)\nx, y",
        "$ python x.py",
        "Juno (comics)",
        "# A heading",
    ],
)
def test_prose_is_no_program(text: str) -> None:
    assert masked(text) == text


def test_algebra_stays_in_a_math_trace_and_a_program_does_not() -> None:
    algebra = "x = a + b\ny = 2 * x\nz = f(y)"
    assert masked(algebra, Domain.MATH) == algebra
    assert masked(f"{algebra}\nprint(z)\nSo it is.", Domain.MATH) == "[bare]\nSo it is."


def rows_of(path: Path) -> Iterator[dict[str, object]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as lines:
        for line in lines:
            yield json.loads(line)


HEAD, TAIL = "We solve it step by step.\n", "\nThat is all of it."
STYLES = {
    "fence": (HEAD + "```python\n", "", "\n```" + TAIL),
    "tilde": (HEAD + "~~~\n", "", "\n~~~" + TAIL),
    "unterminated": (HEAD + "```python\n", "", ""),
    "nested": (HEAD + "````md\n```python\n", "", "\n```\n````" + TAIL),
    "html": (HEAD + "<pre><code>", "", "</code></pre>" + TAIL),
    "bare": (HEAD + "\n", "", "\n" + TAIL),
    "bare, no blank line": (HEAD, "", TAIL),
    "indented": (HEAD + "\n", "    ", "\n" + TAIL),
    "list item": (HEAD + "1. So\n   ```\n", "   ", "\n   ```" + TAIL),
    "block quote": (HEAD + "\n", "> ", "\n" + TAIL),
}


@pytest.mark.parametrize("style", STYLES)
def test_no_line_of_a_reference_solution_stays_in_sight(shared_data: Path, style: str) -> None:
    humaneval = [
        str(row["prompt"]) + str(row["canonical_solution"])
        for row in rows_of(shared_data / "humaneval" / "HumanEval.jsonl.gz")
    ]
    mbpp = [str(row["code"]) for row in rows_of(shared_data / "mbpp" / "mbpp.jsonl.gz")]
    before, indent, after = STYLES[style]
    assert len(humaneval) == 164 and len(mbpp) == 974
    for program in humaneval + mbpp:
        code = "\n".join(indent + line for line in program.split("\n"))
        text = before + code + after
        shown = list(text)
        for start, end, _ in spans_of(text):
            shown[start:end] = " " * (end - start)
        inside = "".join(shown[len(before) : len(before) + len(code)])
        assert not re.search(r"\w{2}", inside), program
        assert "".join(shown).startswith(HEAD)
        assert style == "unterminated" or "".join(shown).endswith(TAIL)


def test_no_gsm8k_solution_and_no_fireact_thought_is_a_program(shared_data: Path) -> None:
    num_texts = 0
    for row in rows_of(shared_data / "gsm8k" / "test.jsonl.gz"):
        num_texts += 1
        assert spans_of(str(row["answer"]), Domain.MATH) == []
    for row in rows_of(shared_data / "fireact_trajectories" / "hotpotqa.jsonl.gz"):
        messages = row["messages"]
        assert isinstance(messages, list)
        for message in messages[1:]:
            num_texts += 1
            assert spans_of(message["content"], Domain.SEARCH) == []
    assert num_texts > 3000


@pytest.mark.parametrize(
    "unit", ["x = [\n", "f(", "(\n", "def f(x):\n", "return ", "x=(x)[", 'x = """\n', "a=b;\n", "-"]
)
@pytest.mark.usefixtures("no_garbage_collection")
def test_the_time_grows_with_the_length_and_not_faster(unit: str) -> None:
    def seconds(num_chars: int) -> float:
        text = unit * (num_chars // len(unit))
        start = time.process_time()
        spans_of(text)
        return time.process_time() - start

    assert seconds(120_000) < 12 * max(seconds(30_000), 0.02)
