"""extract_answer: the last marked answer, boxes that belong together, no guess without a mark."""

import pytest

from maskgym.envs.verifiers.math_extraction import extract_answer


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\boxed{1} \boxed{\frac{1}{\sqrt{2}}} ok", r"1, \frac{1}{\sqrt{2}}"),
        (r"\boxed{1} so \boxed{\frac{1}{\sqrt{2}}} ok", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"$\boxed{1}$, $\boxed{2}$ \text{and} $\boxed{3}$", "1, 2, 3"),
        (r"$\boxed{1}$, $\boxed{2}$ and $\boxed{3}$", "1, 2, 3"),
        (r"\(y_1 = \boxed{1}\) and \(y_2 = \boxed{2}\)", "1, 2"),
        (r"\boxed{28} percent", r"28\%"),
        (r"\boxed 7 .", "7"),
        (r"\boxed{42", ""),
        (r"\boxed{41} then \boxed{42", ""),
        ("so #### 42 \nbye", "42"),
        ("<think> #### 41 </think> #### 42", "42"),
        ("<think> #### 41 </think> I do not know", "I do not know"),
    ],
)
def test_the_last_marked_answer_counts(text: str, expected: str) -> None:
    assert extract_answer(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The answer is 5. But the answer is 6.", "6"),
        ("**Answer:** 6", "6"),
        ("Final Answer: The largest $n$ is 34.", "34"),
        ("The answer is $[2,5)$. I hope it is correct.", "[2,5)"),
        (r"Therefore $x \geq 5$ holds.", r"x \geq 5"),
        (r"Answer \[ 9 \]", "9"),
        ("We get $28$ %", r"28\%"),
        (" 42 ", "42"),
    ],
)
def test_without_a_mark_the_sentence_or_the_only_formula_counts(text: str, expected: str) -> None:
    assert extract_answer(text).strip(" $") == expected


@pytest.mark.parametrize(
    "text",
    ["It is not $42$.", "Either $42$ or more", "From 3 we get $42$", "$41$ or $42$", "no 42"],
)
def test_where_a_text_says_more_all_of_it_counts(text: str) -> None:
    assert extract_answer(text) == text
