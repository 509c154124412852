"""In: a plain Python value, or bytes that nobody vouches for. Out: those bytes; the same value.

Plain are None, bool, int of any size, float with NaN and infinities, complex, str, bytes,
bytearray, list, tuple, set, frozenset, dict with any plain key, range, nestings of these, and these
types themselves. What derives from one of them (Counter, namedtuple, IntEnum) becomes its base, a
numpy scalar the number it holds, and an iterator what it yields. Nothing else passes, and never a
pickle.

The form is JSON, where a list is a list and every other container an object of one key that names
its type. Reading is safe on hostile bytes: the size, the memory that the value may take, the depth
and the digits of a number are bounded, and a set or dict whose keys collide is refused, since
filling it would take quadratic time.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

MAX_BYTES = 4 << 20
_MAX_DEPTH = 200
_MAX_ITEMS = 500_000
_MAX_ESTIMATE = 40 << 20
"""Bytes of memory that a value read may take, by the estimate of `_check_size`."""
_MAX_DIGITS = 4000  # Python reads decimal numbers of 4300 digits at most
_MAX_PLAIN_BITS = 13_000  # fewer than 4000 digits
_LONG_NUMBER = re.compile(rb"\d{%d}" % _MAX_DIGITS)
_LEAVES = frozenset({type(None), bool, str, float})
_LEAVES_AND_INT = _LEAVES | {int}
_NUMBERS_AND_TEXT = (bool, int, float, complex, str, bytes, bytearray)
_CONTAINERS = (list, tuple, set, frozenset, dict, range)
_TYPES: dict[str, type] = {
    kind.__name__: kind for kind in (*_NUMBERS_AND_TEXT, *_CONTAINERS, type(None))
}


class NotPlain(TypeError):
    """The value holds something that has no plain form; the message names its type."""


class TooLarge(ValueError):
    """The value is larger, or nested deeper, than may travel."""


class Unreadable(ValueError):
    """The bytes are no value of this codec."""


def encode(value: object, *, max_bytes: int = MAX_BYTES, max_items: int = _MAX_ITEMS) -> bytes:
    """The bytes of a plain value.

    Raises:
        NotPlain: If it holds anything that is not plain.
        TooLarge: If it takes more than `max_bytes`, holds more than `max_items` or is nested deeper
            than 200 levels (a value that contains itself is).
    """
    form = _Encoder(max_items).form(value, 0)
    data = _WRITER.encode(form).encode("utf-8", "surrogatepass")
    if len(data) > max_bytes:
        raise TooLarge(f"a value of {len(data)} bytes; {max_bytes} may travel")
    return data


def decode(data: bytes, *, max_bytes: int | None = MAX_BYTES) -> Any:
    """The value that `data` says, made of exact built-in types.

    Args:
        data: What `encode` gave, or what somebody says it gave.
        max_bytes: None where whoever sent it is trusted: then nothing is bounded.

    Raises:
        Unreadable: If `data` was not made by `encode`.
        TooLarge: If the value could take too much memory.
    """
    if max_bytes is not None:
        if len(data) > max_bytes:
            raise TooLarge(f"a value of {len(data)} bytes; {max_bytes} may travel")
        _check_size(data)
    try:
        return _READER.decode(data.decode("utf-8", "surrogatepass"))
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise Unreadable(f"no value of the codec: {type(error).__name__}: {error}") from None


class _Encoder:
    """Turns values into what `json` writes, counting what it has seen."""

    def __init__(self, max_items: int) -> None:
        self._num_left = max_items

    def form(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind in _LEAVES:
            return value
        if kind is int:
            return value if value.bit_length() <= _MAX_PLAIN_BITS else {"int": hex(value)}
        if kind is list:
            return self._items(value, depth)
        if kind is tuple:
            return {"tuple": self._items(value, depth)}
        if kind is dict:
            return {"dict": self._items([part for item in value.items() for part in item], depth)}
        if kind is set or kind is frozenset:
            return {kind.__name__: self._items(list(value), depth)}
        if kind is complex:
            return {"complex": [value.real, value.imag]}
        if kind is bytes or kind is bytearray:
            return {kind.__name__: value.hex()}
        if kind is range:
            return {"range": [value.start, value.stop, value.step]}
        if kind is type and value in _TYPES.values():
            return {"type": value.__name__}
        return self._base_form(value, depth)

    def _items(self, items: Any, depth: int) -> list[Any]:
        self._num_left -= len(items)
        if self._num_left < 0:
            raise TooLarge("too many items in a value")
        if depth >= _MAX_DEPTH:
            raise TooLarge(f"a value nested deeper than {_MAX_DEPTH} levels")
        kinds = set(map(type, items))
        if kinds <= _LEAVES:
            return list(items)  # json writes it as it is, in C
        if kinds <= _LEAVES_AND_INT:
            bits = max(item.bit_length() for item in items if type(item) is int)
            if bits <= _MAX_PLAIN_BITS:
                return list(items)
        return [self.form(item, depth + 1) for item in items]

    def _base_form(self, value: Any, depth: int) -> Any:
        """The form of what derives from a plain type, of numpy's scalars and of iterators."""
        for base in (int, float, complex, str, bytes, bytearray):
            if isinstance(value, base):
                return self.form(_rebuilt(base, value), depth)
        if isinstance(value, dict):
            return self.form(dict(dict.items(value)), depth)
        containers: tuple[Any, ...] = (list, tuple, set, frozenset)
        for container in containers:
            if isinstance(value, container):
                return self.form(container(container.__iter__(value)), depth)
        if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():
            return self.form(value.item(), depth)
        if isinstance(value, Iterator):
            return {"iterator": self._items(list(islice(value, self._num_left + 1)), depth)}
        raise NotPlain(f"{type(value).__name__} is no plain value")


def _rebuilt(base: Any, value: Any) -> Any:
    """The part of `value` that is of its built-in base, whatever its class overloads."""
    if base is str:
        return str.__str__(value)
    if base in (bytes, bytearray):
        return base(memoryview(value))
    if base is complex:
        return complex.__add__(value, 0j)
    return base.__add__(value, 0)


def _check_size(data: bytes) -> None:
    """Refuses what would take far more memory, or time, than its bytes suggest."""
    estimate = 232 * data.count(b"{") + 64 * data.count(b"[") + 64 * data.count(b",")
    if estimate > _MAX_ESTIMATE:
        raise TooLarge(f"a value of about {estimate >> 20} MiB in memory")
    if _LONG_NUMBER.search(data) and _has_long_number(data):
        raise Unreadable(f"a decimal number of more than {_MAX_DIGITS} digits")


def _has_long_number(data: bytes) -> bool:
    """Whether a long run of digits stands outside of strings."""
    return _LONG_NUMBER.search(re.sub(rb'"(?:[^"\\]|\\.)*+"', b'""', data)) is not None


def _value(pairs: list[tuple[str, Any]]) -> Any:
    """The value of one tagged object, whose contents are values already."""
    if len(pairs) != 1:
        raise ValueError(f"an object of {len(pairs)} keys")
    (tag, body) = pairs[0]
    match tag, body:
        case "tuple", list():
            return tuple(body)
        case "set", list():
            return set(_hashable(body))
        case "frozenset", list():
            return frozenset(_hashable(body))
        case "dict", list() if len(body) % 2 == 0:
            return dict(zip(_hashable(body[::2]), body[1::2], strict=True))
        case "int", str():
            return int(body, 16)
        case "bytes", str():
            return bytes.fromhex(body)
        case "bytearray", str():
            return bytearray.fromhex(body)
        case "complex", [int() | float() as real, int() | float() as imaginary]:
            return complex(real, imaginary)
        case "range", [int() as start, int() as stop, int() as step]:
            return range(start, stop, step)
        case "type", str() if body in _TYPES:
            return _TYPES[body]
        case "iterator", list():
            return iter(body)
    raise ValueError(f"an object of type {tag[:20]!r}")


def _hashable(keys: list[Any]) -> list[Any]:
    """The keys, unless many share a hash: numbers can be made to, and then hashing is quadratic."""
    if len(keys) > 64 and len(set(map(hash, keys))) < math.ceil(len(keys) / 2):
        raise ValueError(f"{len(keys)} keys of equal hash")
    return keys


_WRITER = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":"))
_READER = json.JSONDecoder(object_pairs_hook=_value)
