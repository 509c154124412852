import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from maskgym.envs import (
    PythonTool,
    SandboxLimits,
    SearchConfig,
    SearchTool,
    SubprocessSandbox,
    Tool,
)
from maskgym.retrieval import Hit, Passage


class Fixed:
    """Finds the same passages whatever is asked."""

    fingerprint = "fixed"

    def __init__(self, *passages: Passage) -> None:
        self.passages = passages
        self.queries: list[str] = []

    def search(self, queries: Sequence[str], top_k: int) -> list[list[Hit]]:
        self.queries += queries
        return [[Hit(passage=p, score=1.0) for p in self.passages[:top_k]] for _ in queries]

    def close(self) -> None:
        pass


class Hanging(Fixed):
    def search(self, queries: Sequence[str], top_k: int) -> list[list[Hit]]:
        threading.Event().wait(5)
        return []


PAGES = (
    Passage(id="p1", title="Belva Torrin", text="mentor Corin Vale ."),
    Passage(id="p2", text="no title"),
)


@pytest.fixture(scope="module")
def python() -> Iterator[PythonTool]:
    sandbox = SubprocessSandbox()
    yield PythonTool(sandbox, SandboxLimits(wall_s=1.0))
    sandbox.close()


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("numbered", "[1] Belva Torrin: mentor Corin Vale .\n[2] no title"),
        ("plain", "Belva Torrin mentor Corin Vale .\nno title"),
        (
            "search-r1",
            'Doc 1(Title: "Belva Torrin") mentor Corin Vale .\nDoc 2(Title: "") no title',
        ),
    ],
)
def test_hits_are_shown_in_the_form_asked_for(form: str, text: str) -> None:
    config = SearchConfig(passage_format=form)  # type: ignore[arg-type]
    result = SearchTool(Fixed(*PAGES), config).call(" who \n is it ")
    assert result.text == text
    assert result.details == (("passage_id", "p1"), ("passage_id", "p2"))


def test_a_query_is_one_line_and_top_k_and_length_are_kept_to() -> None:
    retriever = Fixed(*PAGES)
    result = SearchTool(retriever, SearchConfig(top_k=1, max_passage_chars=6)).call("who\nis  it")
    assert retriever.queries == ["who is it"]
    assert result.text == "[1] Belva Torrin: mentor"


def test_no_hit_is_said() -> None:
    assert SearchTool(Fixed()).call("x").text == "No passage matches this query."


def test_a_retriever_that_hangs_is_given_up_after_the_limit() -> None:
    started_s = time.monotonic()
    with pytest.raises(TimeoutError, match=r"within 0\.2 s"):
        SearchTool(Hanging(), SearchConfig(timeout_s=0.2)).call("x")
    assert time.monotonic() - started_s < 2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("top_k", 0),
        ("max_query_chars", 0),
        ("passage_format", "xml"),
        ("max_passage_chars", 0),
        ("timeout_s", 0),
    ],
)
def test_a_bad_search_setting_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        SearchConfig(**{field: value})  # type: ignore[arg-type]


def test_our_tools_are_tools(python: PythonTool) -> None:
    assert isinstance(python, Tool)
    assert isinstance(SearchTool(Fixed()), Tool)


@pytest.mark.parametrize(
    "code",
    [
        "print(6 * 7)",
        "```python\nprint(6 * 7)\n```",
        "```py\nprint(6 * 7)",
        "    x = 42\n    print(x)",
    ],
)
def test_a_program_is_run_with_or_without_a_fence_or_indentation(
    python: PythonTool, code: str
) -> None:
    result = python.call(code)
    assert (result.text, result.is_error) == ("42", False)
    assert result.details == (("status", "ok"), ("tier", "T0"))


def test_a_warning_on_standard_error_keeps_what_was_printed(python: PythonTool) -> None:
    text = python.call("import sys\nprint('out')\nsys.stderr.write('careful')").text
    assert text == "out\ncareful"


def test_a_program_that_raises_is_a_result_with_its_traceback(python: PythonTool) -> None:
    result = python.call("print('before')\nraise ValueError('fail')")
    assert result.text.startswith("before\n")
    assert result.text.endswith("ValueError: fail")
    assert not result.is_error


def test_a_program_that_prints_nothing_or_exits_is_said_so(python: PythonTool) -> None:
    assert python.call("x = 1").text == "The program printed nothing."
    assert python.call("import os; os._exit(3)").text == "The program failed."


def test_the_time_limit_is_kept_and_counts_as_a_failure_of_the_tool(python: PythonTool) -> None:
    started_s = time.monotonic()
    result = python.call("while True: pass")
    assert result.is_error and "out of time" in result.text
    assert time.monotonic() - started_s < 5
