from hypothesis import given, settings
from hypothesis import strategies as st

from maskgym.masking.folding import fold


def test_case_accents_and_typography_are_folded() -> None:
    assert fold("Saint-Étienne").text == "saint-etienne"
    assert fold("D\u2019Arc \u2013 STRASSE / Straße").text == "d'arc - strasse / strasse"
    assert fold("Cafe\u0301").text == "cafe"
    assert fold("\uff13 \ufb01").text == "3 fi"


def test_offsets_lead_back_over_ligatures_and_dropped_accents() -> None:
    text = "a \ufb01n cafe\u0301!"
    folded = fold(text)
    at = folded.text.index("fin")
    assert text[slice(*folded.original(at, at + 3))] == "\ufb01n"
    at = folded.text.index("cafe")
    assert text[slice(*folded.original(at, at + 4))] == "cafe\u0301"


@settings(deadline=None)
@given(st.text(), st.data())
def test_the_original_of_a_folded_range_folds_to_it_again(text: str, data: st.DataObject) -> None:
    folded = fold(text)
    if not folded.text:
        return
    start = data.draw(st.integers(0, len(folded.text) - 1))
    end = data.draw(st.integers(start + 1, len(folded.text)))
    original = slice(*folded.original(start, end))
    assert original.start < original.stop <= len(text)
    assert folded.text[start:end] in fold(text[original]).text
