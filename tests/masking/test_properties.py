"""Properties of masking as a whole, on traces put together from shapes that real traces have."""

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskgym.envs import Domain, Task
from maskgym.masking import ExpertTrace, RenderConfig, TraceTurn, TurnKind, find_spans, mask
from maskgym.masking.render import placeholder

NUMBERS = (
    "3",
    "4.5",
    "-7",
    "1,234,567",
    "50%",
    "$12.50",
    "10^{6}",
    "1e-3",
    "\u00bd",
    "0x1F",
    "1/2",
)
LATEX = (
    *(
        "\\frac{1}{2}",
        "\\frac12",
        "\\sqrt[3]{8}",
        "\\boxed{",
        "\\boxed{42}",
        "\\text{ten}",
        "2\\pi",
    ),
    *("$x^2$", "\\[ y = 3 \\]", "\\frac{1", "\\infty", "\\left( 3, 5 \\right]"),
)
LABELS = (
    "Step 1: ",
    "Steps 2 and 3",
    "Case 2: ",
    "1. ",
    "2) ",
    "- ",
    "#### ",
    "AMC12",
    "H2O",
    "x_1",
)
WORDS = (
    "one ",
    "twelve ",
    "one hundred and five ",
    "half ",
    "so ",
    "the answer is ",
    "then ",
    "it's ",
)
ENTITIES = (
    "New York City",
    "new york",
    "Beyonc\u00e9",
    "June 5, 1999",
    "1999-06-05",
    "km",
    "(B)",
    "B",
)
CODE = (
    *(
        "```python\n",
        "```\n",
        "\n```",
        "~~~\n",
        "`x = 3`",
        "`foo`",
        "``a''",
        "    x = f(3)\n",
        "> ",
    ),
    *(
        "def f(x):\n    return x + 1\n",
        "print(x)\n",
        "<code>a[0]</code>",
        "<pre>",
        "dp[i] = a[i-1]",
    ),
    *('"""', "return dp[n]; ", ">>> f(3)\n4\n", "x = [\n", "\r\n"),
)
SIGNS = ("+", "-", "=", "*", " ", "\n", "\n\n", ", ", ". ", "(", ")", "[", "]", "{", "}", "$", "\\")
LITERALS = ("[NUMBER]", "[\\NUMBER]", "[CODE_3]", "[", "NUMBER]", "<answer>", "</answer>")
FRAGMENTS = st.sampled_from(
    NUMBERS + LATEX + LABELS + WORDS + ENTITIES + CODE + SIGNS + LITERALS
) | st.text(max_size=3)
TEXTS = st.lists(FRAGMENTS, max_size=25).map("".join)

TURNS = st.builds(
    TraceTurn,
    kind=st.sampled_from(TurnKind),
    text=TEXTS,
    tool=st.sampled_from(("search", "python", "")),
)
TRACES = st.lists(TURNS, min_size=1, max_size=4).map(lambda turns: ExpertTrace(turns=tuple(turns)))
TASKS = st.builds(
    Task,
    task_id=st.sampled_from(("a", "b")),
    question=st.just("How far is 3 km from New York, and what is one half of it?"),
    answers=st.sampled_from([("42",), ("4.5", "B"), ("Beyonc\u00e9",), ("yes",)]),
    entities=st.just(("New York City",)),
    domain=st.sampled_from(Domain),
)

SELECTING = ("all", "answer_only", "all_keep_given", "critical", "critical_keep_given")
"""Policies that hide a part of what `all` hides."""
KEEP_RESULTS = RenderConfig(tool_results="mask")
VERBATIM = RenderConfig(tool_results="mask", escape_literals=False)
THOROUGH = settings(max_examples=150, deadline=None, derandomize=True)

Places = set[tuple[int, int]]


def hidden_places(trace: ExpertTrace | str, task: Task, policy: str) -> Places:
    """Turn and offset of each hidden character."""
    spans = mask(trace, task, policy, render=KEEP_RESULTS).spans
    return {(span.turn, at) for span in spans for at in range(span.start, span.end)}


@THOROUGH
@given(TRACES, TASKS)
def test_offsets_point_at_what_was_found(trace: ExpertTrace, task: Task) -> None:
    for span in find_spans(trace, task):
        assert span.start < span.end
        assert trace.turns[span.turn].text[span.start : span.end] == span.value
    spans = mask(trace, task, render=KEEP_RESULTS).spans
    for span, following in itertools.pairwise(spans):
        assert (span.turn, span.end) <= (following.turn, following.start)
        assert trace.turns[span.turn].text[span.start : span.end] == span.value


@THOROUGH
@given(TEXTS, TASKS)
def test_masking_a_masked_text_again_changes_nothing(text: str, task: Task) -> None:
    once = mask(text, task, "all", render=VERBATIM).text
    assert mask(once, task, "all", render=VERBATIM).text == once


@THOROUGH
@given(TEXTS, TASKS)
def test_masking_an_escaped_text_again_hides_nothing_more(text: str, task: Task) -> None:
    once = mask(text, task, "all").text
    twice = mask(once, task, "all").text
    assert twice.replace("\\", "") == once.replace("\\", "")


@THOROUGH
@given(TEXTS, TASKS, st.sampled_from([*SELECTING, "random_matched(1)"]))
def test_what_is_not_hidden_stays_as_it_is_and_in_order(text: str, task: Task, policy: str) -> None:
    scaffold = mask(text, task, policy, render=VERBATIM)
    pieces, at = [], 0
    for span in scaffold.spans:
        pieces += [text[at : span.start], placeholder(span, VERBATIM)]
        at = span.end
    assert scaffold.text == "".join([*pieces, text[at:]])


@THOROUGH
@given(TRACES, TASKS)
def test_none_hides_nothing(trace: ExpertTrace, task: Task) -> None:
    assert hidden_places(trace, task, "none") == set()


@pytest.mark.parametrize("policy", SELECTING)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(trace=TRACES, task=TASKS)
def test_no_policy_hides_more_than_all(policy: str, trace: ExpertTrace, task: Task) -> None:
    assert hidden_places(trace, task, policy) <= hidden_places(trace, task, "all")


@THOROUGH
@given(TRACES, TASKS, st.integers(0, 3))
def test_random_matched_hides_as_much_as_all_within_a_word(
    trace: ExpertTrace, task: Task, seed: int
) -> None:
    wanted = len(hidden_places(trace, task, "all"))
    places = hidden_places(trace, task, f"random_matched({seed})")
    words = [
        (index, match.start(), match.end())
        for index, turn in enumerate(trace.turns)
        for match in re.finditer(r"\S+", turn.text)
    ]
    visible = [end - start for turn, start, end in words if (turn, start) not in places]
    longest = max((end - start for _, start, end in words), default=0)
    if visible:
        assert abs(wanted - len(places)) <= longest
    assert places == hidden_places(trace, task, f"random_matched({seed})")


@THOROUGH
@given(TEXTS, TASKS, st.floats(0, 1))
def test_a_prefix_is_the_start_of_the_text(text: str, task: Task, ratio: float) -> None:
    shown = mask(text, task, f"prefix({ratio:.3f})", render=VERBATIM).text
    assert text.startswith(shown)


@THOROUGH
@given(TRACES, TASKS)
def test_a_trace_keeps_its_turns(trace: ExpertTrace, task: Task) -> None:
    scaffold = mask(trace, task, "all", render=KEEP_RESULTS)
    assert len(scaffold.turns) <= len(trace.actions)
    assert scaffold.text == "\n".join(turn for turn in scaffold.turns if turn)


@THOROUGH
@given(st.text(), TASKS)
def test_any_unicode_text_can_be_masked(text: str, task: Task) -> None:
    assert mask(text, task, "none").text == text
    mask(text, task, "all")
