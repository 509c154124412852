"""mask() as a whole: properties on made-up traces, leaks on real ones."""

import gzip
import json
import operator
import pickle
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskgym.envs import Domain, Task
from maskgym.masking import (
    ExpertTrace,
    MaskableTask,
    RenderConfig,
    Scaffold,
    Span,
    SpanKind,
    TraceTurn,
    TurnKind,
    mask,
    register_policy,
)
from maskgym.masking.audit import LeakLevel
from maskgym.masking.checks import Checks
from maskgym.masking.policies import POLICIES

PIECES = st.sampled_from(
    (
        *(
            "Step 1: ",
            "3",
            "4.5",
            "+",
            "=",
            "-",
            " ",
            "\n",
            "x_1",
            "x",
            "k",
            "one ",
            "1. ",
            "Steps 2",
        ),
        *(
            "\\frac{1}{2}",
            "\\boxed{",
            "}",
            "{",
            "```python\n",
            "```",
            "~~~",
            "#### ",
            "50%",
            "10^6",
        ),
        *(
            "[NUMBER]",
            "[CODE_3]",
            "New York City",
            "new york",
            "\u00e9",
            "(B)",
            "B",
            "<answer>",
            "km",
        ),
    )
)
TEXTS = st.lists(PIECES | st.text(max_size=3), max_size=30).map("".join)
TASK = Task(
    task_id="t",
    question="How far is 3 km from New York?",
    answers=("4.5", "B", "km"),
    entities=("New York City",),
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(TEXTS, st.sampled_from(["all", "answer_only", "none"]))
def test_masking_what_is_masked_changes_nothing(text: str, policy: str) -> None:
    once = mask(text, TASK, policy)
    twice = mask(once.text, TASK, policy)
    assert twice.text == once.text


@settings(max_examples=100, deadline=None)
@given(TEXTS, st.sampled_from(["all", "answer_only", "all_keep_given", "random_matched(1)"]))
def test_what_is_not_hidden_stays_as_it_is(text: str, policy: str) -> None:
    scaffold = mask(text, TASK, policy, render=RenderConfig(escape_literals=False))
    pieces, at = [], 0
    for span in scaffold.spans:
        assert span.start >= at and text[span.start : span.end] == span.value
        pieces.append(re.escape(text[at : span.start]) + r"\[[A-Z]+\]")
        at = span.end
    assert re.fullmatch("".join(pieces) + re.escape(text[at:]), scaffold.text)


@settings(max_examples=100, deadline=None)
@given(TEXTS)
def test_the_target_is_never_visible_when_all_is_hidden(text: str) -> None:
    assert not mask(text, TASK, "all").audit.is_answer_visible


def test_the_readme_example_holds_and_a_scaffold_travels() -> None:
    scaffold = mask("Step 1: 3+4=7", TASK)
    assert scaffold.text == "Step 1: [NUMBER]+[NUMBER]=[NUMBER]"
    assert scaffold.turns == (scaffold.text,)
    assert scaffold.policy == "all"
    assert pickle.loads(pickle.dumps(scaffold)) == scaffold


# (target, end of a trace); each shows the target in a form of its own.
LEAKS = [
    ("12", "So there are twelve ways. Indeed twelve is the answer."),
    ("12", r"Hence the answer is $12$. \boxed{12}"),
    (r"\frac{1}{2}", r"we get \tfrac12. Thus \boxed{\frac12}"),
    (r"\frac{1}{2}", r"so exactly one half of them; \boxed{\frac{1}{2}}"),
    ("x+2", r"After factoring $(x+2)(x-3)$ the quotient is \boxed{x+2}"),
    (r"\pi", r"The area equals $\pi$. \boxed{\pi}"),
    (r"2\pi", r"circumference $2\pi$, \boxed{2\pi}"),
    ("n", r"By induction the answer is \boxed{n}"),
    ("n(n+1)", "sum is $n(n+1)$"),
    (r"\infty", r"the limit diverges to $\infty$"),
    (r"\text{Yes}", r"The answer is Yes. \boxed{\text{Yes}}"),
    ("B", r"The correct choice is (B). \boxed{B}"),
    (r"(-\infty,0)", r"solution set is $(-\infty,0)$"),
    (r"\text{east}", r"he walks east, \boxed{\text{east}}"),
    ("ab", "the product is $ab$"),
    ("y=mx", "line $y=mx$"),
    (r"\sqrt{a}", r"hence $\sqrt{a}$"),
    (r"\frac{a}{b}", r"ratio is $\frac{a}{b}$"),
    (r"\text{Tuesday}", "so it falls on a Tuesday"),
    ("e", "this limit is $e$"),
    ("i", "the root is $i$"),
    (r"\text{XII}", "the clock shows XII"),
    (r"\emptyset", r"no solutions: $\emptyset$"),
    ("105", "one hundred and five in total"),
    ("1000", "a thousand"),
    ("0", "there are no solutions, i.e. zero"),
    ("3", "only three of the four work"),
    ("5", "5"),
    ("2^{n}", "gives $2^{n}$"),
    ("n^2+n", "so $n^2+n$"),
    # in another form, which only the verifier sees
    ("x+2", "the quotient is $2+x$"),
    ("n(n+1)", "sum is $n^2+n$"),
    (r"2\sqrt{2}", r"length $\sqrt{8}$"),
    (r"\frac{1}{2}", "a chance of 0.5"),
]
_MATH = re.compile(r"\$([^$]+)\$|\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}")
_WORDS = {"12": "twelve", "105": "one hundred and five", "1000": "thousand", "0": "zero"}


def plain(text: str) -> str:
    text = re.sub(r"\\text\{([^}]*)\}", r"\1", text)
    return text.replace("\\left", "").replace("\\right", "").replace(" ", "").lower()


def leak_of(text: str, target: str, equals: Any) -> str:
    """An auditor of its own: mathematical text, words and numbers, each compared in full."""
    for match in _MATH.finditer(text):
        place = match[1] or match[2]
        if re.search(r"\[[A-Z]+\]", place):
            continue
        if plain(place) == plain(target) or equals(place, target):
            return place
    for number in re.findall(r"(?<![\w.])\d+(?:[/.]\d+)?(?!\w)", text):
        if equals(number, target):
            return str(number)
    words = [plain(target)] if plain(target).isalpha() and len(plain(target)) > 1 else []
    words += [_WORDS.get(target, "three" if target == "3" else "")]
    return next((w for w in words if w and re.search(rf"\b{w}\b", text.lower())), "")


@pytest.mark.parametrize("policy", ["all", "answer_only"])
def test_no_form_of_the_target_is_left(policy: str) -> None:
    verifier: Any = pytest.importorskip("math_verify")

    def equals(value: str, answer: str) -> bool:
        parse, verify = verifier.parse, verifier.verify
        return bool(verify(parse(f"${answer}$"), parse(f"${value}$")))

    num_shown = 0
    for target, text in LEAKS:
        task = Task(task_id="t", question="?", answers=(target,))
        scaffold = mask(text, task, policy, checks=Checks(equals=equals, timeout_s=None))
        assert not leak_of(scaffold.text, target, equals), (target, scaffold.text)
        assert not scaffold.audit.is_answer_visible, (target, scaffold.text)
        num_shown += bool(leak_of(text, target, equals))
    assert num_shown >= len(LEAKS) - 2  # the auditor sees them before they are hidden


def test_an_audit_is_made_when_it_is_asked_for_and_travels() -> None:
    asked = []

    def equals(value: str, answer: str) -> bool:  # a closure cannot be pickled
        asked.append(value)
        return False

    task = Task(task_id="t", question="?", answers=("x",))
    passed: list[str] = []

    def passes(program: str) -> bool:
        passed.append(program)
        return False

    checks = Checks(equals=equals, passes=passes, timeout_s=None)
    scaffold = mask("```\nprint(1)\n```", task, "none", checks=checks)
    assert passed == []
    copy = pickle.loads(pickle.dumps(scaffold))
    assert passed == ["print(1)"]
    assert copy == scaffold and copy.audit == scaffold.audit and copy.audit_input is None
    assert pickle.loads(pickle.dumps(copy)).audit == scaffold.audit


def test_a_scaffold_put_together_by_hand_says_that_it_has_no_audit() -> None:
    scaffold = Scaffold(text="a", turns=("a",), hidden=(), policy="x", requested_policy="x")
    with pytest.raises(LookupError, match="mask\\(trace, task, policy\\)"):
        _ = scaffold.audit


CHAIN = Task(task_id="t", question="Add 3 to 4.", answers=("7",))


def test_a_policy_that_leaks_too_much_gives_way_to_a_stricter_one() -> None:
    text = "First 3 + 4 = 7."
    asked = mask(text, CHAIN, "answer_only", max_leak=LeakLevel.ONE_STEP)
    assert asked.policy == asked.requested_policy == "answer_only"
    stricter = mask(text, CHAIN, "answer_only", max_leak=LeakLevel.REPLAYABLE)
    assert stricter.policy != stricter.requested_policy == "answer_only"
    assert stricter.audit.level <= LeakLevel.REPLAYABLE and not stricter.is_dropped


def test_a_scaffold_that_always_leaks_too_much_is_dropped() -> None:
    dropped = mask("First 3 + 4 = 7.", CHAIN, "none", max_leak=LeakLevel.NONE)
    assert dropped.is_dropped and dropped.requested_policy == "none" and dropped.policy == ""
    assert (dropped.text, dropped.turns, dropped.spans) == ("", (), ())
    assert dropped.audit.level is LeakLevel.NONE and dropped.audit.hidden_share == 1


def test_a_scaffold_that_leaks_nothing_stays() -> None:
    scaffold = mask("No value here.", CHAIN, "none", max_leak=LeakLevel.NONE)
    assert scaffold.text == "No value here." and not scaffold.is_dropped


@pytest.fixture
def own_policy() -> Iterator[str]:
    def first_words(
        trace: ExpertTrace, spans: Sequence[Span], task: MaskableTask, num: int = 1
    ) -> list[Span]:
        found = list(re.finditer(r"\S+", trace.turns[0].text))[:num]
        return [Span(start=m.start(), end=m.end(), kind=SpanKind.WORD, value=m[0]) for m in found]

    register_policy("first_words", first_words)
    yield "first_words"
    del POLICIES["first_words"]


def test_a_policy_of_ones_own_is_used_by_name_until_it_is_another(own_policy: str) -> None:
    assert mask("a b c", CHAIN, own_policy).text == "[WORD] b c"
    assert mask("a b c", CHAIN, f"{own_policy}(2)").text == "[WORD] [WORD] c"
    POLICIES[own_policy] = lambda trace, spans, task: ()
    assert mask("a b c", CHAIN, own_policy).text == "a b c"


def test_a_policy_of_ones_own_is_checked() -> None:
    def odd(trace: ExpertTrace, spans: Sequence[Span], task: MaskableTask) -> list[Span]:
        return [Span(start=0, end=9, kind=SpanKind.WORD, value="a")]

    with pytest.raises(ValueError, match="'odd' gave a span at 0:9"):
        mask("a", CHAIN, odd)


def test_a_verbatim_policy_escapes_nothing() -> None:
    def first(trace: ExpertTrace, spans: Sequence[Span], task: MaskableTask) -> list[Span]:
        return [Span(start=0, end=1, kind=SpanKind.WORD, value="a")]

    escaped = RenderConfig(escape_literals=True)
    assert mask("a [NUMBER]", CHAIN, first, render=escaped).text == r"[WORD] [\NUMBER]"
    first.is_verbatim = True  # type: ignore[attr-defined]
    assert mask("a [NUMBER]", CHAIN, first, render=escaped).text == "[WORD] [NUMBER]"


def test_spans_are_numbered_when_the_text_is_indexed() -> None:
    text = "3 and 4 and three make 7"
    indexed = mask(text, CHAIN, render=RenderConfig(indexed=True))
    assert indexed.text == "[NUMBER_1] and [NUMBER_2] and [NUMBER_1] make [NUMBER_3]"
    assert [span.group for span in indexed.spans] == [1, 2, 1, 3]
    assert {span.group for span in mask(text, CHAIN).spans} == {-1}


def test_a_group_given_by_a_detector_shares_its_number() -> None:
    def both(trace: ExpertTrace, spans: Sequence[Span], task: MaskableTask) -> list[Span]:
        kind = SpanKind.ENTITY
        return [
            Span(start=0, end=3, kind=kind, value="Ada", group=8),
            Span(start=4, end=7, kind=kind, value="Bob", group=5),
            Span(start=8, end=16, kind=kind, value="Lovelace", group=8),
        ]

    scaffold = mask("Ada Bob Lovelace", CHAIN, both, render=RenderConfig(indexed=True))
    assert scaffold.text == "[ENTITY_1] [ENTITY_2] [ENTITY_1]"


def test_a_verifier_that_can_be_pickled_is_asked_in_a_worker() -> None:
    task = Task(task_id="t", question="?", answers=("x+2",))
    checks = Checks(equals=operator.eq, timeout_s=20.0)
    scaffold = mask("we get $y = x +2$ or $x$", task, "answer_only", checks=checks)
    assert scaffold.text == "we get $y = [ANSWER]$ or $x$"
    assert scaffold.audit.num_unverified == 0


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as lines:
        for line in lines:
            yield json.loads(line)


def gsm8k(shared_data: Path) -> Iterator[tuple[str, Task]]:
    for index, row in enumerate(rows_of(shared_data / "gsm8k" / "test.jsonl.gz")):
        answer = row["answer"].rpartition("#### ")[2].strip()
        yield row["answer"], Task(task_id=f"{index}", question=row["question"], answers=(answer,))


def test_no_gsm8k_solution_gives_its_answer_away(shared_data: Path) -> None:
    num_rows = 0
    for text, task in gsm8k(shared_data):
        scaffold = mask(text, task)
        assert not scaffold.audit.is_answer_visible
        assert scaffold.audit.kept_structure == 1
        assert not re.search(r"\d", scaffold.text)
        for sign in "+*/=\n":
            assert scaffold.text.count(sign) == text.count(sign)
        num_rows += 1
    assert num_rows == 1319


def fireact(shared_data: Path) -> Iterator[tuple[ExpertTrace, Task]]:
    """ReAct trajectories by GPT-4: thought and action in one message, then an observation."""
    for index, row in enumerate(
        rows_of(shared_data / "fireact_trajectories" / "hotpotqa.jsonl.gz")
    ):
        turns: list[TraceTurn] = []
        answer = ""
        for message in row["messages"][1:]:
            text = message["content"]
            if message["role"] == "user":
                turns.append(TraceTurn(kind=TurnKind.TOOL_RESULT, tool="search", text=text))
                continue
            thought, _, action = text.rpartition("Action: ")
            name, _, argument = action.strip().removesuffix("]").partition("[")
            turns.append(TraceTurn(kind=TurnKind.THOUGHT, text=thought.strip()))
            if name == "finish":
                answer = argument
                turns.append(TraceTurn(kind=TurnKind.ANSWER, text=argument))
                break
            turns.append(TraceTurn(kind=TurnKind.TOOL_CALL, tool=name, text=argument))
        if answer:
            question = row["messages"][0]["content"]
            task = Task(
                task_id=f"{index}", question=question, answers=(answer,), domain=Domain.SEARCH
            )
            yield ExpertTrace(turns=tuple(turns)), task


def test_no_fireact_trajectory_gives_its_answer_away(shared_data: Path) -> None:
    num_rows = num_visible_before = 0
    for trace, task in fireact(shared_data):
        for config in (RenderConfig(), RenderConfig(tool_results="mask")):
            scaffold = mask(trace, task, render=config)
            assert not scaffold.audit.is_answer_visible
            shown = " ".join(re.sub(r"\[[A-Z]+\]", "_", scaffold.text).casefold().split())
            # A "no" may be a determiner; the audit tells where it stands as an answer.
            if len(task.answers[0]) > 1 and task.answers[0].casefold() != "no":
                answer = re.escape(" ".join(task.answers[0].casefold().split()))
                assert not re.search(rf"(?<!\w){answer}(?!\w)", shown)
            assert len(scaffold.turns) == len(trace.actions)
        num_visible_before += mask(trace, task, "none").audit.is_answer_visible
        num_rows += 1
    assert num_rows > 400 and num_visible_before == num_rows


def mint(path: Path) -> Iterator[tuple[ExpertTrace, Task]]:
    """MINT solutions: <thought>, <execute> (Python) and <solution> in one message."""
    tag = re.compile(r"<(thought|execute|solution)>(.*?)</\1>", re.DOTALL)
    kinds = {
        "thought": TurnKind.THOUGHT,
        "execute": TurnKind.TOOL_CALL,
        "solution": TurnKind.ANSWER,
    }
    for index, row in enumerate(rows_of(path)):
        turns = [
            TraceTurn(
                kind=kinds[match[1]],
                text=match[2].strip(),
                tool="python" if match[1] == "execute" else "",
            )
            for message in row["state"]["history"]
            if message["role"] == "assistant"
            for match in tag.finditer(message["content"])
        ]
        question = row["state"]["history"][0]["content"].rpartition("Task:\n")[2]
        answers = [turn.text for turn in turns if turn.kind is TurnKind.ANSWER]
        if answers:
            yield (
                ExpertTrace(turns=tuple(turns)),
                Task(task_id=f"{index}", question=question, answers=(answers[-1],)),
            )


@pytest.mark.parametrize("name", ["gsm8k", "math"])
def test_no_mint_trace_gives_its_answer_or_its_code_away(shared_data: Path, name: str) -> None:
    scaffolds: list[Scaffold] = []
    for trace, task in mint(shared_data / "mint_traces" / f"gpt-4-0613_{name}.jsonl.gz"):
        scaffold = mask(trace, task)
        assert not scaffold.audit.is_answer_visible
        assert scaffold.audit.kept_structure == 1
        calls = re.findall(r"^python: (.*)$", scaffold.text, re.MULTILINE)
        assert set(calls) <= {"[CODE]"}
        scaffolds.append(scaffold)
    assert len(scaffolds) > 30
    assert any("python: [CODE]" in scaffold.text for scaffold in scaffolds)
