import pytest

from maskgym.retrieval.porter import stem


@pytest.mark.parametrize(
    ("words", "stems"),
    [  # the examples of Porter's paper, step by step, with the stems that Lucene 10 gives them
        (
            "caresses ponies ties caress cats feed agreed plastered bled motoring sing",
            "caress poni ti caress cat feed agre plaster bled motor sing",
        ),
        (
            "conflated troubled sized hopping tanned falling hissing fizzed failing filing happy",
            "conflat troubl size hop tan fall hiss fizz fail file happi",
        ),
        (
            "relational conditional rational valenci hesitanci digitizer radicalli differentli",
            "relat condit ration valenc hesit digit radic differ",
        ),
        (
            "analogousli vietnamization predication operator feudalism decisiveness hopefulness",
            "analog vietnam predic oper feudal decis hope",
        ),
        (
            "callousness formaliti sensitiviti sensibiliti triplicate formative formalize",
            "callous formal sensit sensibl triplic form formal",
        ),
        (
            "hopeful goodness revival allowance inference airliner gyroscopic adjustable",
            "hope good reviv allow infer airlin gyroscop adjust",
        ),
        (
            "defensible irritant replacement adjustment dependent adoption homologou communism",
            "defens irrit replac adjust depend adopt homolog commun",
        ),
        (
            "activate angulariti homologous effective bowdlerize probate rate cease controll roll",
            "activ angular homolog effect bowdler probat rate ceas control roll",
        ),
    ],
)
def test_the_examples_of_the_paper_are_stemmed_as_lucene_does(words: str, stems: str) -> None:
    assert [stem(word) for word in words.split()] == stems.split()


def test_martins_two_extensions_hold() -> None:
    assert stem("conformabli") == "conform"  # bli -> ble
    assert stem("archaeology") == "archaeolog"  # logi -> log
    assert stem("technology") == "technolog"


@pytest.mark.parametrize("word", ["", "a", "by", "is", "42", "é"])
def test_words_of_at_most_two_letters_stay(word: str) -> None:
    assert stem(word) == word


def test_odd_words_lose_what_lucene_takes() -> None:
    odd = {"ied": "i", "ies": "i", "ying": "ying", "ssss": "ssss", "yes": "ye", "o'neill": "o'neil"}
    assert {word: stem(word) for word in odd} == odd
