"""The graders of GSM8K runs and of SMEPO, with their oddities, against their own code and cases."""

import json
import random
from pathlib import Path

import pytest

from maskgym.envs.verifiers import verify_math
from maskgym.envs.verifiers.math_compat import gsm8k_answer, hendrycks_equal, smepo_answer


@pytest.mark.parametrize(
    ("solution", "gold", "expected"),
    [
        ("#### 42", "42", True),
        ("#### 1,000", "1000", True),
        ("#### -3.5", "-3.5", True),
        ("#### 42.", "42", False),
        ("#### $42", "42", False),
        ("#### 1,000", "1,000", False),
        ("#### 5 no #### 42", "42", False),
        ("#### 42 or 43", "42", True),
        ("####42", "42", False),
        (r"\boxed{42}", "42", False),
    ],
)
def test_gsm8k_takes_the_first_marked_number_as_a_string(
    solution: str, gold: str, expected: bool
) -> None:
    assert verify_math(solution, [gold], mode="compat:gsm8k").is_correct is expected


def test_gsm8k_says_what_skyrl_gym_says_of_random_solutions() -> None:
    theirs = pytest.importorskip("skyrl_gym.envs.gsm8k.utils", reason="skyrl-gym is not installed")
    choose = random.Random(0)
    pieces = ["#### ", "####", "42", "-", ",", ".", "$", "1,000", " ", "\n", "x", "0", "٣"]
    for _ in range(5_000):
        solution = "".join(choose.choices(pieces, k=choose.randint(1, 6)))
        assert gsm8k_answer(solution) == theirs.extract_solution(solution), solution


@pytest.mark.parametrize(
    ("solution", "gold", "expected"),
    [
        (r"\boxed{x=5}", "5", True),
        (r"\boxed{5\%}", "5", True),
        (r"\boxed{90^\circ}", "90", True),
        (r"\boxed{0.5}", r"\frac12", True),
        (r"\boxed{1/2}", r"\dfrac{1}{2}", True),
        (r"\boxed 7$ then", "7", True),
        (r"\boxed{10\text{ units}}", "10", True),
        (r"\boxed{\frac{}}", r"\frac{}", True),
        (r"\boxed{\sqrt}", r"\sqrt", True),
        (r"\boxed{1,000}", "1000", False),
        (r"\boxed{42.0}", "42", False),
        (r"\boxed{0.25}", r"\frac14", False),
        (r"\boxed{\{1,2\}}", r"\{2,1\}", False),
        (r"\boxed{42", "42", False),
        (r"\fbox{42}", "42", False),
        ("42", "42", False),
    ],
)
def test_smepo_compares_the_last_box_as_a_normalised_string(
    solution: str, gold: str, expected: bool
) -> None:
    assert verify_math(solution, [gold], mode="compat:smepo").is_correct is expected


def test_a_box_with_a_space_wins_over_a_later_one() -> None:
    assert smepo_answer(r"\boxed 7$ and \boxed{8}") == "7"
    assert smepo_answer(r"\boxed{7} and \boxed{8}") == "8"


def test_every_case_of_hendrycks_equality_agrees(shared_data: Path) -> None:
    path = shared_data / "hendrycks_equiv_cases/is_equiv_cases.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines():
        case = json.loads(line)
        assert hendrycks_equal(case["a"], case["b"]) is case["equivalent"], case
