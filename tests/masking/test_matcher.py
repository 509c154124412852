import pickle
import time

import pytest

from maskgym.masking.aliases import surfaces_of
from maskgym.masking.matcher import AliasIndex


def found(text: str, *aliases: str) -> list[str]:
    return [text[m.start : m.end] for m in AliasIndex.of(aliases).find(text)]


@pytest.mark.parametrize(
    ("alias", "text", "values"),
    [
        ("\u00c9lodie Durand", "ELODIE  durand's town", ["ELODIE  durand"]),
        ("Elodie", "E\u0301lodie", ["E\u0301lodie"]),
        ("Saint-\u00c9tienne", "in Saint Etienne", ["Saint Etienne"]),
        ("The Beatles", "Beatles fans of the Beatles", ["Beatles", "Beatles"]),
        ("New York", "New\nYork, _New York_", ["New\nYork", "New York"]),
        ("Paris", "Parisian comparison", []),
        ("km", "5km", ["km"]),
        ("1,234", "1234 or 11,234", ["1234"]),
        ("72", "172 or 7.2 or $72.00", ["72.00"]),
        ("-5", "x = -5", ["5"]),
        (r"\frac{1}{2}", r"1/2 = \frac{1}{2}, 11/2", ["1/2", r"\frac{1}{2}"]),
        ("x - 1", "x-1, x+1, 2x-1, ax-1", ["x-1", "x-1"]),
        ("J. K. Rowling", "by J.K. Rowling", ["J.K. Rowling"]),
        (r"$\text{Yes}$", "yes, eyes", ["yes"]),
        ("\u5317\u4eac", "\u5728\u5317\u4eac\u5e02", ["\u5317\u4eac"]),
        ("B", "A B (B) b, the answer is B", ["B", "B"]),
        ("A", "A man. Option A is right", ["A"]),
        ("", "anything", []),
        ("  ", "any thing", []),
        ("C++", "C and C++ code", ["C++"]),
        ("the symbol \u00d7", 'the symbol "\u00d7".', ['symbol "\u00d7']),
    ],
)
def test_mentions_of_an_alias(alias: str, text: str, values: list[str]) -> None:
    assert sorted(found(text, alias)) == sorted(values)


@pytest.mark.parametrize(
    ("alias", "text", "values"),
    [
        ("Ada Lovelace", "Lovelace, Ada, is A. Lovelace's", ["Lovelace, Ada", "A. Lovelace"]),
        ("Ada Lovelace", "Mrs Lovelace met ada.", ["Lovelace", "ada"]),
        ("Ronald Reuel Tolkien", "R. R. Tolkien, RR Tolkien", ["R. R. Tolkien", "RR Tolkien"]),
        ("Dr. Martin Luther Jr.", "Martin Luther", ["Martin Luther"]),
        ("Easy Living (1937 film)", "Easy Living", ["Easy Living"]),
        ("Simon & Garfunkel", "Simon and Garfunkel", ["Simon and Garfunkel"]),
        ("Simon and Garfunkel", "Simon & Garfunkel", ["Simon & Garfunkel"]),
        ("U.S.", "the US, used by us", ["US"]),
        ("US", "the U.S. and us", ["U.S"]),
        ("The Who", "a man who saw the Who", ["Who"]),
        ("Spider-Man", "Spiderman", ["Spiderman"]),
        ("Spiderman", "Spider-Man", ["Spider-Man"]),
        ("Beauty and Beast", "Beauty and the Beast", ["Beauty and the Beast"]),
        ("12 May 2024", "May 12th, 2024 = 2024-05-12", ["May 12th, 2024", "2024-05-12"]),
        ("2024-05-12", "12 May 2024, May 2024", ["12 May 2024"]),
        ("May 2011", "in May of 2011", ["May of 2011"]),
        ("5 million", "5,000,000 or five million, 5 cats", ["5,000,000", "five million"]),
        ("1985", "nineteen eighty-five", ["nineteen eighty-five"]),
        ("105", "one hundred and five", ["one hundred and five"]),
        ("seven", "7 or seven, seventh", ["7", "seven"]),
        ("1.5 billion", "1,500 million", ["1,500 million"]),
        ("1,800 to 7,000 ft", "from 1800 to 7000 ft", ["1800 to 7000 ft"]),
    ],
)
def test_other_forms_of_an_alias(alias: str, text: str, values: list[str]) -> None:
    assert found(text, alias) == values


@pytest.mark.parametrize(
    ("alias", "text", "values"),
    [
        ("\u20a8", "\u20a8500 for users of Rs", ["\u20a8"]),
        ("\u24c4", "\u24c4 of O", ["\u24c4"]),
        ("O F", "a bit of O. F. Oliver", ["O. F"]),
        ("I S", "it is I S", ["I S"]),
        ("OF", "of OF Of", ["OF"]),
        ("I.S.", "it is. Is I.S. IS?", ["I.S", "IS"]),
        ("Let", 'called a ""let"", let it be', ["let"]),
        ("Let", "a \u2018let\u2019, `let` and Let", ["let", "let", "Let"]),
        ("-\\frac12", "x = -\\frac12", ["\\frac12"]),
        ("-x+1", "is -x+1", ["-x+1"]),
    ],
)
def test_odd_aliases_match_no_more_than_themselves(
    alias: str, text: str, values: list[str]
) -> None:
    assert found(text, alias) == values


def test_an_alias_without_words_is_never_found_everywhere() -> None:
    index = AliasIndex.of(["\u20a8", "\u00a8", "\u200b", "!?"])
    assert index.find("users say it is \u00fcber-normal. ") == []


@pytest.mark.parametrize("name", ["Tim Burton", "Faberg\u00e9 Eggs", "Johann Sebastian Bach"])
@pytest.mark.parametrize("end", [". ", "? ", "\n", "; "])
def test_a_reordered_name_does_not_cross_a_sentence_end(name: str, end: str) -> None:
    assert found(f"{name}{end}{name}", name) == [name, name]
    *given, last = name.split()
    assert found(f"{last}, {' '.join(given)}", name) == [f"{last}, {' '.join(given)}"]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("There is no information, no one knows.", []),
        ("So the answer is no because", ["no"]),
        ("The answer: No", ["No"]),
        ("No, they are not", ["No"]),
        ("**no**", ["no"]),
    ],
)
def test_no_counts_only_where_an_answer_stands(text: str, values: list[str]) -> None:
    assert found(text, "No") == values


def test_parts_of_a_name_do_not_count_if_common_or_in_the_question() -> None:
    def parts(alias: str, *words: str) -> list[str]:
        return [s.text for s in surfaces_of(alias, frozenset(words)) if s.is_partial]

    assert parts("Ada Lovelace") == ["ada", "lovelace"]
    assert parts("Ada Lovelace", "lovelace") == ["ada"]
    assert parts("New York City") == []
    assert parts("12 May 2024") == []


def test_a_form_whose_words_all_stand_in_the_question_does_not_count_but_the_alias_does() -> None:
    words = frozenset(("easy", "living"))
    forms = [s.text for s in surfaces_of("Easy Living (film)", words)]
    assert forms == ["easy living film"]
    assert surfaces_of("Easy Living", words)[0].text == "easy living"


def test_the_longest_alias_is_found_and_overlaps_are_not_lost() -> None:
    values = found("New York City Hall", "New York", "New York City", "City Hall")
    assert values == ["New York City", "City Hall"]


def test_a_surface_of_two_aliases_belongs_to_the_first_and_whole_names_before_parts() -> None:
    index = AliasIndex.of(["John Keats", "Keats"])
    assert [m.alias for m in index.find("Keats")] == [1]
    index = AliasIndex.of(["Fanny Keats", "George Keats"])
    assert [m.alias for m in index.find("Keats")] == [0]


def test_an_index_of_ten_thousand_aliases_finds_each_of_them() -> None:
    names = [f"Name{at // 100:03} Surname{at % 100:03}" for at in range(10_000)]
    index = AliasIndex.of(names, has_partials=False)
    text = " and ".join(names[::97])
    assert [text[m.start : m.end] for m in index.find(text)] == names[::97]
    assert [m.alias for m in index.find(text)] == list(range(0, 10_000, 97))
    assert index.find("Name000 Surname00 xName000 Surname000s") == []


MANY = [f"Name{at // 40:03} Surname{at % 40:03}" for at in range(1200)]


@pytest.mark.parametrize(
    ("alias", "text", "values"),
    [
        ("Ada Lovelace", "by Lovelace, Ada, and Ada Lovelace.", ["Lovelace, Ada", "Ada Lovelace"]),
        ("Tim Burton", "Tim Burton. Tim Burton", ["Tim Burton", "Tim Burton"]),
        ("1,234", "1234 or 1,234, not 11,234 or 1,234.5", ["1234", "1,234"]),
        ("1.5", "1.5, not 1, 5", ["1.5"]),
        (
            "5 million",
            "5,000,000 or five million or 5 million",
            ["5,000,000", "five million", "5 million"],
        ),
        ("500,000", "0.5 million", ["0.5 million"]),
        ("12 May 2024", "May 12, 2024", ["May 12, 2024"]),
        ("C++", "C and C++ code", ["C++"]),
        ("B", "A B (B) b, the answer is B", ["B", "B"]),
        ("The Who", "who saw the Who?", ["Who"]),
        ("OF", "of OF Of", ["OF"]),
        ("No", "There is no information. The answer is no.", ["no"]),
        ("\u20a8", "\u20a8500 for users", ["\u20a8"]),
        ("\u5317\u4eac", "\u5728\u5317\u4eac\u5e02", ["\u5317\u4eac"]),
        ("Elodie", "\u00c9lodie and E\u0301lodie \ufb03", ["\u00c9lodie", "E\u0301lodie"]),
    ],
)
def test_one_alias_among_many_is_found_as_well(alias: str, text: str, values: list[str]) -> None:
    index = AliasIndex.of([*MANY, alias])
    for each in (index, pickle.loads(pickle.dumps(index))):
        assert [text[m.start : m.end] for m in each.find(text)] == values
        assert {m.alias for m in each.find(text)} <= {len(MANY)}


def test_an_index_pickles() -> None:
    names = [f"Ada Number{at}" for at in range(50)]
    index = pickle.loads(pickle.dumps(AliasIndex.of(names)))
    assert [m.alias for m in index.find("by Ada Number7 and ada number49")] == [7, 49]


@pytest.mark.parametrize(
    "unit",
    [
        "a ",
        "no. ",
        "1,",
        "1 million ",
        "ada lovelace ",
        "x-",
        "e\u0301",
        "\u00df",
        '"',
        "the ",
        " ",
    ],
)
def test_time_is_linear_in_the_text(unit: str) -> None:
    aliases = ("Ada Lovelace", "No", "B", "1,111", "aa a", "x-1", "Spiderman Returns", "\u00df")
    index = AliasIndex.of(aliases)

    def seconds(length: int) -> float:
        text = unit * (length // len(unit))
        best = float("inf")
        for _ in range(2):
            start = time.process_time()
            index.find(text)
            best = min(best, time.process_time() - start)
        return best

    assert seconds(100_000) < 12 * seconds(25_000) + 0.01
