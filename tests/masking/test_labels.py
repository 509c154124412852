import pytest

from maskgym.envs import Task
from maskgym.masking import mask

TASK = Task(task_id="t", question="How many?")


@pytest.mark.parametrize(
    "text",
    [
        "Step 1: add. In step 12 we stop. Step 3a",
        "Steps 1 and 2, Cases 1-3",
        "Case 2: then Part (1), Theorem 1.2, Section 2.1",
        "1. first\n2) second\n  3. third",
        "- 1. first\n- 2. second",
        "**1.** bold",
        "AMC12, H2O, Fe2O3, y1, x_1, x_{12}, GPT-4, COVID-19",
        "[NUMBER] and [ENTITY_3] stood here before",
        "see equation (3), Eq. 4, Fig. 2 and Question 5",
        r"x = y \tag{3} by \eqref{eq:12}",
        "x = y \\quad (7)\ny = z   (12)",
        "cm^2, cm^{3}, \\text{ m}^2, m\u00b2",
    ],
)
def test_labels_are_never_hidden(text: str) -> None:
    scaffold = mask(text, TASK)
    assert scaffold.text == text
    assert scaffold.audit.kept_structure == 1


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("in case 5 people come", "in case [NUMBER] people come"),
        ("Round 12 to the nearest ten", "Round [NUMBER] to the nearest [NUMBER]"),
        ("Step 1.5", "Step [NUMBER]"),
        ("Step 1,000", "Step [NUMBER]"),
        ("Step 1, 5 apples", "Step 1, [NUMBER] apples"),
        ("the sum is\n7. Done", "the sum is\n[NUMBER]. Done"),
        ("1.5 apples", "[NUMBER] apples"),
        ("Rs20", "Rs[NUMBER]"),
        ("KM4.5, B50%, A10^2", "KM[NUMBER], B[NUMBER], A[NUMBER]"),
        ("gives him16*5", "gives him[NUMBER]*[NUMBER]"),
        ("the Equation 5x = 40", "the Equation [NUMBER]x = [NUMBER]"),
        ("the equation 20 + x", "the equation [NUMBER] + x"),
        ("f(1) and (2)", "f([NUMBER]) and ([NUMBER])"),
        ("m^2 + 5 cm^2", "m^[NUMBER] + [NUMBER] cm^2"),
        ("2x_1 - 3x_{12}", "[NUMBER]x_1 - [NUMBER]x_{12}"),
        ("interSECTION 5", "interSECTION [NUMBER]"),
        (r"\log_2 8", r"\log_[NUMBER] [NUMBER]"),
    ],
)
def test_what_only_looks_like_a_label_is_a_value(text: str, masked: str) -> None:
    assert mask(text, TASK).text == masked


def test_an_answer_that_is_a_label_itself_is_hidden_but_a_part_of_a_label_is_not() -> None:
    assert mask("It is H2O.", Task(task_id="t", question="?", answers=("H2O",))).text == (
        "It is [ANSWER]."
    )
    scaffold = mask("Step 7: it is 7", Task(task_id="t", question="?", answers=("7",)))
    assert scaffold.text == "Step 7: it is [NUMBER]"
    assert not scaffold.audit.is_answer_visible
