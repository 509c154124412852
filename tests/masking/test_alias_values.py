import pytest

from maskgym.masking.alias_values import date_forms, number_forms, scaled
from maskgym.masking.number_words import number_in_words


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1,234", "1234"),
        ("$5 million", "5000000"),
        ("1.5 Billion", "1500000000"),
        ("2.5", "2.5"),
        ("twenty-one", "21"),
        ("007", "7"),
        ("0.25 hundred", "25"),
        ("1.2345 thousand", "1234.5"),
        ("1/2", None),
        ("12 cats", None),
        ("", None),
    ],
)
def test_a_number_has_one_value_however_it_is_written(written: str, value: str | None) -> None:
    assert number_forms(written)[0] == value


@pytest.mark.parametrize("number", [0, 7, 13, 21, 100, 105, 110, 999, 1000, 1001, 12345, 5 * 10**6])
def test_each_form_in_words_reads_as_the_number(number: int) -> None:
    forms = number_forms(str(number))[1]
    assert forms and all(number_in_words(form) == str(number) for form in forms)


def test_years_are_read_in_pairs() -> None:
    assert "nineteen eighty five" in number_forms("1985")[1]
    assert "twenty ten" in number_forms("2010")[1]
    assert scaled("0.5", "thousand") == "500"


@pytest.mark.parametrize(
    "words", ["12 may 2024", "may 12th 2024", "2024 05 12", "12th of may 2024", "the 12 may 2024"]
)
def test_a_date_has_all_its_forms_however_it_is_written(words: str) -> None:
    forms = set(date_forms(words.split()))
    assert forms >= {"may 12 2024", "12 may 2024", "12th of may 2024", "2024 05 12", "5 12 2024"}


@pytest.mark.parametrize("words", ["12 13 2024", "may", "may be", "32 may 2024", "2024 13 05", ""])
def test_what_is_no_date_has_no_forms(words: str) -> None:
    assert list(date_forms(words.split())) == []
