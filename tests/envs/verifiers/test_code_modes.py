"""Rules of grading code: what the program is, what is equal, and what peers make of both."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from maskgym.envs import verify_code
from maskgym.envs.sandbox import LocalSandbox
from maskgym.envs.verifiers import CodeMode, extract_code
from maskgym.envs.verifiers.code_compare import (
    same_output,
    same_output_as_livecodebench,
    same_output_as_prime,
    same_value,
    same_value_as_livecodebench,
    same_value_as_prime,
)
from maskgym.envs.verifiers.code_extract import extract_as_livecodebench, extract_as_prime
from maskgym.scripts.benchmarks.code_cases import CODE_CASES, CodeCase
from maskgym.scripts.benchmarks.verifiers_code import measure_agreement, rival_rewards


@pytest.fixture(scope="module")
def local() -> Iterator[LocalSandbox]:
    sandbox = LocalSandbox(require="T0")
    yield sandbox
    sandbox.close()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("```python\na\n```\n```py\nb = 1\n```", "b = 1\n"),
        ("~~~\nx = 1\n~~~", "x = 1\n"),
        ("so\n```python\nx = 1", "x = 1"),
        ("```python\ndef f():\n    '''a ``` b'''\n```", "def f():\n    '''a ``` b'''\n"),
        ("x = 1", "x = 1"),
        ("I give up.", ""),
        ("", ""),
        ("<think>```python\nx = 2\n```</think>x = 1", "x = 1"),
        ("```\r\nx = 1\r\n```", "x = 1\n"),
    ],
)
def test_the_last_block_or_plain_python_is_the_program(text: str, code: str) -> None:
    assert extract_code(text) == code


@pytest.mark.parametrize(
    ("text", "livecodebench", "prime"),
    [
        ("```python\na\n```\n```python\nb\n```", "b", "\nb\n"),
        ("```python\na\n```\n```\nb\n```", "b", "\na\n"),
        ("```py\na\n```", "a", ""),
        ("a = 1", "", "a = 1"),
        ("```python\na", "", "\na"),
    ],
)
def test_peers_take_other_blocks(text: str, livecodebench: str, prime: str) -> None:
    assert extract_as_livecodebench(text) == livecodebench
    assert extract_as_prime(text) == prime


@pytest.mark.parametrize(
    ("value", "expected", "strict", "livecodebench", "prime"),
    [
        (1, 1, True, True, True),
        (True, 1, False, True, True),
        (2.0, 2, True, True, True),
        (0.1 + 0.2, 0.3, True, False, False),
        (2 * 10**400, 1.0, False, False, False),
        (math.nan, math.nan, True, False, False),
        ((1, 2), [1, 2], True, True, True),
        ([(1, 2)], [[1, 2]], True, False, False),
        ([(1, 2)], [[[1, 2]]], False, False, True),
        ([1], [[1]], False, False, True),
        ({1, 2}, [1, 2], False, False, False),
        ({"a": 1}, {"a": 1}, True, True, True),
        ({1: 2}, {"1": 2}, True, False, True),
        ({1: 2, "1": 3}, {"1": 2}, False, False, False),
        (b"a", "a", False, False, False),
        (1 + 0j, 1, False, True, False),
        (iter([1]), [1], False, False, False),
        (None, None, True, True, True),
        ("1", 1, False, False, False),
    ],
)
def test_values_are_equal_by_the_rules_of_the_mode(
    value: object, expected: object, strict: bool, livecodebench: bool, prime: bool
) -> None:
    assert same_value(value, expected) is strict
    assert same_value_as_livecodebench(value, expected) is livecodebench
    assert same_value_as_prime(value, expected) is prime


@pytest.mark.parametrize(
    ("printed", "expected", "strict", "livecodebench", "prime"),
    [
        ("6\n", "6", True, True, True),
        ("  6  \n\n", "6\n", True, True, True),
        ("1  2", "1 2", True, True, False),
        ("a  b", "a b", True, False, False),
        ("1.50", "1.5", True, True, True),
        ("1.5000001", "1.5", True, False, True),
        ("0.0005", "0.0001", False, False, False),
        ("0.00001", "0.00002", False, False, False),
        ("100001", "100000", False, False, False),
        ("100000.5", "100000.0", False, False, True),
        ("1.0000001 2", "1 2", False, False, False),
        ("6", "6\n7", False, False, False),
        ("6\n\n7", "6\n7", False, False, True),
        ("YES", "yes", False, False, False),
        ("nan", "nan", True, True, True),
        ("", "", True, True, True),
        ("1", "1e400", False, False, False),
    ],
)
def test_output_is_equal_by_the_rules_of_the_mode(
    printed: str, expected: str, strict: bool, livecodebench: bool, prime: bool
) -> None:
    assert same_output(printed, expected) is strict
    assert same_output_as_livecodebench(printed, expected) is livecodebench
    assert same_output_as_prime(printed, expected) is prime


@pytest.mark.parametrize("mode", list(CodeMode))
@pytest.mark.parametrize("case", CODE_CASES, ids=lambda case: case.name)
def test_programs_are_graded_by_the_rules_of_the_mode(
    local: LocalSandbox, case: CodeCase, mode: CodeMode
) -> None:
    grade = verify_code(f"```python\n{case.program}\n```", case.task, local, mode=mode)
    assert grade.is_correct is (mode in case.right_in), grade


def test_an_unknown_mode_is_refused(local: LocalSandbox) -> None:
    with pytest.raises(ValueError, match="No mode 'lcb' of grading code"):
        verify_code("x", CODE_CASES[0].task, local, mode="lcb")


@pytest.mark.slow
def test_livecodebench_cases_earn_what_skyrl_gym_pays() -> None:
    pytest.importorskip("skyrl_gym")
    texts = [f"```python\n{case.program}\n```" for case in CODE_CASES]
    rewards = rival_rewards([(t, [c.test]) for t, c in zip(texts, CODE_CASES, strict=True)])
    wanted = [float(CodeMode.LIVECODEBENCH in case.right_in) for case in CODE_CASES]
    assert rewards == wanted


@pytest.mark.slow
def test_reference_solutions_of_the_samples_pass(shared_data: Path) -> None:
    references, _ = measure_agreement(shared_data, stride=25)
    assert len(references.rows) >= 6
    for row in references.rows:
        num_tasks, num_right, _, _, num_at_fault = (int(str(cell)) for cell in row[1:6])
        assert num_tasks == num_right + num_at_fault, row
