# ruff: noqa: RUF001  (letters that look alike are the point)
import time

import pytest

from maskgym.retrieval.unicode_words import unicode_words


@pytest.mark.parametrize(
    ("text", "words"),
    [  # as Lucene 10's StandardTokenizer splits them
        ("Café-Bar rene\u0301", ["Café", "Bar", "rene\u0301"]),
        ("10 km² and 2½", ["10", "km", "and", "2"]),
        ("日本語のテスト", ["日", "本", "語", "の", "テスト"]),
        ("ภาษาไทย", ["ภาษาไทย"]),
        ("हिन्दी", ["हिन्दी"]),
        ("한국어 text", ["한국어", "text"]),
        ("© ♠ 👨\u200d👩\u200d👧 🇫🇷🇩🇪", ["©", "♠", "👨\u200d👩\u200d👧", "🇫🇷", "🇩🇪"]),
        (
            "rock’n’roll 3.14,15 a.b:c x·y 1,b é",
            ["rock’n’roll", "3.14,15", "a.b:c", "x·y", "1", "b", "é"],
        ),
        ("ב״מ אב'", ["ב״מ", "אב'"]),
        ("__é__ ___ é_1_カ", ["__é__", "é_1_カ"]),
        ("1⁄2 ٣٫١٤", ["1⁄2", "٣٫١٤"]),
        ("", []),
        ("\u200b–…", []),
    ],
)
def test_text_is_split_as_lucene_splits_it(text: str, words: list[str]) -> None:
    assert unicode_words(text) == words


@pytest.mark.parametrize(
    "piece", ["_", "_\u0301", "a", "é_", "a.", "1,", "אֵ'", "👨\u200d", "\u0301", "ก", "🇫"]
)
def test_time_is_linear_in_the_text(piece: str) -> None:
    start = time.process_time()
    unicode_words(piece * 200_000)
    assert time.process_time() - start < 5  # quadratic time would take minutes
