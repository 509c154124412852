from hypothesis import given, settings
from hypothesis import strategies as st

from maskgym.masking.normal_text import NormalText, SpacedText, normal_words


def test_words_are_folded_and_one_space_apart() -> None:
    assert NormalText("J.K.  Rowling's \u201c\u00c9t\u00e9\u201d").text == "j k rowling s ete "
    assert normal_words("Saint-\u00c9tienne, 2001\u2026") == ["saint", "etienne", "2001"]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text(st.sampled_from("ab1 .,-\n\u00e9\u00df\u0301\u2026\u5317\ufb01"), max_size=30))
def test_each_word_leads_back_to_where_it_stands(text: str) -> None:
    for view in (NormalText(text), SpacedText(text)):
        at = 0
        for word in view.text.split():
            at = view.text.index(word, at)
            start, end = view.original(at, at + len(word))
            assert 0 <= start < end <= len(text)
            assert word in "".join(normal_words(text[start:end]))
            at += len(word)
