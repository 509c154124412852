"""codec: every plain value survives the journey, nothing else travels, hostile bytes do no harm."""

import collections
import contextlib
import enum
import fractions
import json
import math
import random
import tracemalloc
from typing import Any, NamedTuple

import numpy
import pytest

from maskgym.envs.sandbox.inside.codec import NotPlain, TooLarge, Unreadable, decode, encode


def same(left: Any, right: Any) -> bool:
    """Equality that tells 1 from True and 1.0, and finds NaN equal to itself."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return all(same(*pair) for pair in zip(left.items(), right.items(), strict=True))
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return repr(left) == repr(right) if isinstance(left, float | complex) else left == right


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -1,
        2**64,
        -(10**4300),
        1.5,
        -0.0,
        math.inf,
        math.nan,
        1 + 2j,
        complex(math.nan, -0.0),
        "",
        "é \u2028 \x00 \ud800 \ud83d\ude00 😀",
        "1" * 5000,
        b"\x00\xff",
        bytearray(b"a"),
        [],
        (),
        set(),
        {},
        [1, (2, [3, ()])],
        {1, 2.5, "a", (1, 2), frozenset({None})},
        frozenset({frozenset({1})}),
        {1: 2, "1": 3, (1, 2): {"a": [None]}, None: True, b"": 1.0},
        {"tuple": [1]},
        range(3, -9, -2),
        [int, str, type(None)],
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_plain_value_comes_back_with_its_types(value: object) -> None:
    back = decode(encode(value))
    assert same(back, value)


def random_value(choose: random.Random, depth: int) -> Any:
    leaves: list[Any] = [
        None,
        True,
        choose.randint(-9, 9),
        choose.random(),
        choose.choice("ab\u20ac"),
    ]
    if depth == 0:
        return choose.choice(leaves)
    items = [random_value(choose, depth - 1) for _ in range(choose.randint(0, 4))]
    keys = [random_value(choose, 0) for _ in items]
    containers: list[Any] = [items, tuple(items), dict(zip(keys, items, strict=True)), set(keys)]
    return choose.choice([*containers, frozenset(keys)])


def test_random_nestings_come_back_with_their_types() -> None:
    choose = random.Random(3)
    for _ in range(300):
        value = random_value(choose, 4)
        assert same(decode(encode(value)), value)


class Level(enum.IntEnum):
    HIGH = 3


class Point(NamedTuple):
    x: int
    y: int


class Liar(int):
    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0

    def __int__(self) -> int:
        return 42


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Level.HIGH, 3),
        (Point(1, 2), (1, 2)),
        (Liar(7), 7),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (collections.defaultdict(list, {1: [2]}), {1: [2]}),
        (numpy.int64(3), 3),
        (numpy.float64(0.5), 0.5),
        (numpy.bool_(True), True),
        ([numpy.int32(1)], [1]),
    ],
)
def test_what_derives_from_a_plain_type_becomes_it(value: object, plain: object) -> None:
    assert same(decode(encode(value)), plain)


def test_an_iterator_brings_what_it_yields_and_is_no_list() -> None:
    back = decode(encode(map(abs, [-1, 2])))
    assert back != [1, 2]
    assert list(back) == [1, 2]


@pytest.mark.parametrize(
    "value", [object(), len, Point, Exception("a"), fractions.Fraction(1, 2), numpy.ones(2), ...]
)
def test_what_is_not_plain_does_not_travel(value: object) -> None:
    with pytest.raises(NotPlain, match="is no plain value"):
        encode([value])


def test_a_value_too_large_too_deep_or_without_end_does_not_travel() -> None:
    circle: list[Any] = []
    circle.append(circle)
    doubled: list[Any] = [1]
    for _ in range(64):
        doubled = [doubled, doubled]
    for value in (circle, doubled, "a" * (5 << 20), iter(int, 1), range(10**9).__iter__()):
        with pytest.raises(TooLarge):
            encode(value)
    assert encode("a" * 100, max_bytes=102)
    with pytest.raises(TooLarge):
        encode("a" * 101, max_bytes=102)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[1",
        b"{}",
        b'{"tuple":[],"tuple":[]}',
        b'{"tuple":1}',
        b'{"set":[[1]]}',
        b'{"dict":[1]}',
        b'{"int":"x"}',
        b'{"int":3}',
        b'{"bytes":"0"}',
        b'{"complex":["1",2]}',
        b'{"range":[1,2,0]}',
        b'{"type":"object"}',
        b'{"__reduce__":["os.system","true"]}',
        b"[" * 100_000,
        b'{"tuple":[' * 100_000,
        b"9" * 1_000_000,
        b'["a\\"",' + b"9" * 5000 + b"]",
    ],
    ids=lambda data: repr(data[:20]),
)
def test_bytes_that_are_no_value_are_refused(data: bytes) -> None:
    with pytest.raises(Unreadable):
        decode(data)


def test_damaged_bytes_give_a_value_or_are_refused() -> None:
    choose = random.Random(5)
    whole = encode({"a": [1, 2.5, (None, {3, 4})], 5: b"x", "b": 10**4500, "c": 1j})
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(choose.randint(1, 4)):
            data[choose.randrange(len(data))] = choose.choice(b'{}[]",:0123456789abe\\ \x00\xff')
        with contextlib.suppress(Unreadable, TooLarge):
            encode(decode(bytes(data)))


def test_numbers_made_to_share_a_hash_are_refused() -> None:
    prime = 2**61 - 1
    numbers = [prime * i for i in range(100_000)]
    for body in ({"set": numbers}, {"dict": [x for n in numbers for x in (n, 0)]}):
        with pytest.raises(Unreadable, match="equal hash"):
            decode(json.dumps(body).encode())
    assert len(decode(encode(set(range(-50_000, 50_000))))) == 100_000


@pytest.mark.parametrize(
    "piece",
    [b"[],", b"{},", b'{"set":[]},', b'"a",', b'"ab",', b"12345,", b"1e9,", "\U0001f600".encode()],
)
def test_hostile_bytes_take_no_more_memory_than_a_bound(piece: bytes) -> None:
    size = ((4 << 20) - 10) // len(piece)
    data = b"[" + piece * size + b"0]"
    data = data if b"," in piece else b'"' + data[1:-10] + b'"'
    tracemalloc.start()
    try:
        with contextlib.suppress(TooLarge):
            decode(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 50 << 20
