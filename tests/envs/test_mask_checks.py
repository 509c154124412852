"""The environments mask with their own verifiers, and show scaffold t at turn t."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from maskgym.envs import (
    CodeEnv,
    CodeTest,
    Domain,
    EpisodeConfig,
    MathEnv,
    SearchEnv,
    Task,
    TestKind,
    TextEnv,
    check_environment,
)
from maskgym.envs.contract import ContractError
from maskgym.envs.mask_checks import equals_in_math, mask_checks
from maskgym.envs.sandbox import SubprocessSandbox
from maskgym.envs.verifiers import verify_math
from maskgym.envs.verifiers.math import UndecidedError
from maskgym.masking import ExpertTrace, Scaffold, TraceTurn, TurnKind, mask
from maskgym.masking.checks import Checks
from maskgym.retrieval import BM25Index, Passage

THOUGHT, CALL, RESULT, ANSWER = TurnKind


def turn(kind: TurnKind, text: str, tool: str = "") -> TraceTurn:
    return TraceTurn(kind=kind, text=text, tool=tool)


MATH = Task(
    task_id="math",
    question="What is half of 5?",
    answers=(r"\frac{5}{2}",),
    expert_trace=ExpertTrace(
        turns=(
            turn(THOUGHT, "Let us compute 5 / 2."),
            turn(CALL, "print(5 / 2)", "python"),
            turn(RESULT, "2.5", "python"),
            turn(THOUGHT, "It printed 2.5, which is $2\\frac{1}{2}$."),
            turn(CALL, "print(2 * 2.5 == 5)", "python"),
            turn(RESULT, "True", "python"),
            turn(THOUGHT, "So it holds."),
            turn(ANSWER, "5/2"),
        )
    ),
)
SEARCH = Task(
    task_id="search",
    question="Where was the author of Emma born?",
    answers=("Steventon",),
    entities=("Jane Austen",),
    domain=Domain.SEARCH,
    expert_trace=ExpertTrace(
        turns=(
            turn(THOUGHT, "Who wrote it?"),
            turn(CALL, "author of Emma", "search"),
            turn(RESULT, "Emma is a novel by Jane Austen.", "search"),
            turn(THOUGHT, "Jane Austen did."),
            turn(CALL, "where was Jane Austen born", "search"),
            turn(RESULT, "Jane Austen was born in Steventon.", "search"),
            turn(THOUGHT, "She was born in Steventon."),
            turn(ANSWER, "Steventon"),
        )
    ),
)
PROGRAM = "def f(x):\n    return x + 1"
CODE = Task(
    task_id="code",
    question="Write f(x), which gives x plus one.",
    domain=Domain.CODE,
    tests=(CodeTest(kind=TestKind.CALL, function="f", arguments="[2]", expected="3"),),
    entry_point="f",
    expert_trace=ExpertTrace(
        turns=(
            turn(THOUGHT, "We add one."),
            turn(CALL, "print(2 + 1)", "python"),
            turn(RESULT, "3", "python"),
            turn(THOUGHT, "That is how it works."),
            turn(CALL, f"{PROGRAM}\nprint(f(2))", "python"),
            turn(RESULT, "3", "python"),
            turn(THOUGHT, "It does."),
            turn(ANSWER, f"```python\n{PROGRAM}\n```"),
        )
    ),
)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SubprocessSandbox]:
    made = SubprocessSandbox()
    yield made
    made.close()


@pytest.mark.parametrize(
    ("task", "value", "answer", "expected"),
    [
        (MATH, "2.5", r"\frac{5}{2}", True),
        (MATH, r"2\frac{1}{2}", r"\frac{5}{2}", True),
        (MATH, "2.4", r"\frac{5}{2}", False),
        (MATH, r"\boxed{4", "4", False),
        (SEARCH, "the Steventon.", "Steventon", True),
        (SEARCH, "Steventon, Hampshire", "Steventon", False),
    ],
)
def test_a_value_is_equal_as_the_verifier_of_the_domain_has_it(
    task: Task, value: str, answer: str, expected: bool
) -> None:
    assert mask_checks(task).is_equal(value, answer) is expected


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        ("2.50", r"\frac{5}{2}"),
        (r"50\%", "0.5"),
        (r"\sqrt{8}", r"2\sqrt{2}"),
        ("(x-1)(x+1)", "x^2-1"),
        ("-2, 1", "1,-2"),
        (r"5 \ge x", r"x \le 5"),
        ("42 or 43", "42"),
        ("123 * 456", "56088"),
        ("x+2", "x+1"),
    ],
)
def test_a_value_is_equal_exactly_where_the_verifier_pays_for_it(value: str, answer: str) -> None:
    is_paid = verify_math(f"\\boxed{{{value}}}", [answer]).is_correct
    assert mask_checks(MATH).is_equal(value, answer) is is_paid
    assert mask_checks(MATH).is_equal(f"$\\boxed{{{value}}}$", answer) is is_paid


def test_a_value_that_the_verifier_cannot_judge_counts_as_unverified(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def undecided(*_: object, **__: object) -> bool:
        raise UndecidedError("no process")

    monkeypatch.setattr("maskgym.envs.mask_checks.is_equal", undecided)
    assert Checks(equals=equals_in_math, timeout_s=None).is_equal("x", "y") is None


def test_a_program_passes_as_the_tests_of_the_task_have_it(sandbox: SubprocessSandbox) -> None:
    checks = mask_checks(CODE, sandbox)
    assert checks.equals is None
    assert checks.is_passing(PROGRAM) is True
    assert checks.is_passing("def f(x):\n    return x") is False
    assert checks.is_passing("import os; os._exit(0)") is False
    assert mask_checks(CODE).passes is None


def test_the_audit_of_a_code_scaffold_runs_what_is_left(sandbox: SubprocessSandbox) -> None:
    checks = mask_checks(CODE, sandbox)
    assert CODE.expert_trace is not None
    assert mask(CODE.expert_trace, CODE, "none", checks=checks).audit.do_remains_pass is True
    assert mask(CODE.expert_trace, CODE, "all", checks=checks).audit.do_remains_pass is False


def search_env(**settings: Any) -> TextEnv:
    texts = ("Emma is a novel by Jane Austen.", "Jane Austen was born in Steventon.")
    passages = [Passage(id=str(i), text=text) for i, text in enumerate(texts)]
    return SearchEnv(tasks=[SEARCH], retriever=BM25Index.build(passages), **settings)


ENVS: list[tuple[Callable[..., TextEnv], Task, str]] = [
    (lambda **kw: MathEnv(tasks=[MATH], tools=("python",), **kw), MATH, "2.5"),
    (search_env, SEARCH, "Steventon"),
    (lambda **kw: CodeEnv(tasks=[CODE], **kw), CODE, "return"),
]
each_env = pytest.mark.parametrize(("make", "task", "secret"), ENVS, ids=["math", "search", "code"])


@each_env
def test_scaffold_t_is_shown_at_turn_t(
    make: Callable[..., TextEnv], task: Task, secret: str
) -> None:
    env = make(scaffold="all", config=EpisodeConfig(scaffold_timing="per_turn"))
    assert task.expert_trace is not None
    whole = mask(task.expert_trace, task, "all", checks=env.make_checks(task))
    assert len(whole.turns) == 3 and all(whole.turns)
    observation, info = env.reset(seed=0)
    shown = [observation["scaffold"]]
    assert info["has_scaffold"] is True
    tool = env.tools[0].name
    for argument in ("1", "2", "3"):
        observation, *_ = env.step(env.protocol.format_tool_call(tool, argument))
        shown.append(observation["scaffold"])
    assert shown == [*whole.turns, ""]
    assert not any(secret in text for text in shown)
    kinds = [str(segment.kind) for segment in env.transcript.segments]
    assert kinds.count("scaffold") == 3
    env.close()


@each_env
def test_the_whole_scaffold_is_shown_at_reset_alone(
    make: Callable[..., TextEnv], task: Task, secret: str
) -> None:
    env = make(scaffold="all")
    first, _ = env.reset(seed=0)
    second, *_ = env.step(env.protocol.format_tool_call(env.tools[0].name, "1"))
    assert first["scaffold"].count("\n") >= 3 and second["scaffold"] == ""
    assert secret not in first["scaffold"]
    env.close()


@each_env
def test_the_three_environments_keep_the_contract_with_their_checks(
    make: Callable[..., TextEnv], task: Task, secret: str
) -> None:
    env = make()
    check_environment(env)
    env.close()


def test_the_environment_hides_what_its_own_verifier_pays_for() -> None:
    env = MathEnv(tasks=[MATH], scaffold="answer_only")
    scaffold = env.reset()[0]["scaffold"]
    assert "2.5" not in scaffold and "\\frac{1}{2}" not in scaffold and "It printed" in scaffold


class CountedEnv(MathEnv):
    num_made = 0

    def make_checks(self, task: Task) -> Checks | None:
        self.num_made += 1
        return None


def test_a_group_of_episodes_masks_its_task_once() -> None:
    env = CountedEnv(tasks=[MATH])
    texts = {env.reset(options={"scaffold": "all"})[0]["scaffold"] for _ in range(8)}
    assert len(texts) == 1 and env.num_made == 1
    env.reset(options={"scaffold": "none"})
    assert env.num_made == 2
    other = Task(task_id="math", question="?", expert_trace=ExpertTrace.from_text("another"))
    assert env.reset(options={"scaffold": "all", "task": other})[0]["scaffold"] == "another"


def test_scaffolds_are_not_kept_for_ever() -> None:
    trace = ExpertTrace.from_text("It is 1.")
    tasks = [Task(task_id=f"{i}", question="?", expert_trace=trace) for i in range(200)]
    env = CountedEnv(tasks=tasks, scaffold="all")
    for i in range(200):
        env.reset(options={"task": i})
    env.reset(options={"task": 199})
    assert env.num_made == 200
    env.reset(options={"task": 0})
    assert env.num_made == 201


def test_an_environment_brings_a_verifier_of_its_own() -> None:
    class Shouting(MathEnv):
        def make_checks(self, task: Task) -> Checks | None:
            return Checks(equals=lambda value, answer: value == "blue", timeout_s=None)

    task = Task(
        task_id="t",
        question="Which colour?",
        answers=("azure",),
        expert_trace=ExpertTrace.from_text("We get **blue** and **green**."),
    )
    shown = Shouting(tasks=[task], scaffold="answer_only").reset()[0]["scaffold"]
    assert shown == "We get **[ANSWER]** and **green**."


def test_a_scaffold_that_leaks_too_much_is_masked_harder_or_not_shown() -> None:
    env = MathEnv(tasks=[MATH], scaffold="none", scaffold_max_leak="L2")
    observation, info = env.reset()
    assert info["scaffold_policy"] == "all" and "2.5" not in observation["scaffold"]
    chain = Task(
        task_id="chain",
        question="Add 3 to 4.",
        answers=("7",),
        expert_trace=ExpertTrace.from_text("3 + 4 = 7"),
    )
    env = MathEnv(tasks=[chain], scaffold="all", scaffold_max_leak="none")
    observation, info = env.reset()
    assert (observation["scaffold"], info["has_scaffold"], info["scaffold_policy"]) == (
        "",
        False,
        "",
    )
    with pytest.raises(ValueError, match="Did you mean 'L"):
        MathEnv(tasks=[chain], scaffold_max_leak="L7")


def test_a_scaffold_made_beforehand_is_shown_as_it_is() -> None:
    ready: Scaffold = mask("3 + 4 = 7", MATH, "none")
    env = MathEnv(tasks=[MATH], scaffold=ready, scaffold_max_leak="none")
    assert env.reset()[0]["scaffold"] == "3 + 4 = 7"


@pytest.mark.parametrize("says", [True, False])
def test_the_contract_sees_checks_that_disagree_with_grade(says: bool) -> None:
    class Odd(MathEnv):
        def make_checks(self, task: Task) -> Checks | None:
            return Checks(equals=lambda value, answer: says, timeout_s=None)

    with pytest.raises(ContractError, match="make_checks and grade agree"):
        check_environment(Odd(tasks=[MATH]))


def test_the_contract_sees_a_trace_that_leaks_with_all_hidden() -> None:
    class Odd(MathEnv):
        def make_checks(self, task: Task) -> Checks | None:
            return Checks(passes=lambda text: text == "5" or "import" in text, timeout_s=None)

    trace = ExpertTrace.from_text("Here one can import wisdom.")
    task = Task(task_id="t", question="?", answers=("5",), expert_trace=trace)
    with pytest.raises(ContractError, match=r"does not give the answer away(.|\n)*t: L4"):
        check_environment(Odd(tasks=[task]))
