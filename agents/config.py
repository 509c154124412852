"""Nested settings in, configuration dataclasses out; misspelt keys are refused with the nearest name."""

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

C = TypeVar("C")

NONE = "none"  # TOML has no null; as a value of an optional setting this word stands for it


def config_from_dict(kind: type[C], values: Mapping[str, Any], *, place: str = "") -> C:
    """The configuration that a mapping describes, nested dataclasses included.

    Raises:
        ValueError: If a key is unknown (with the nearest name), one that is required is missing, a value
            has another type, or the configuration itself refuses it.
    """
    fields = {f.name: f for f in dataclasses.fields(kind) if f.init}  # type: ignore[arg-type]
    hints = typing.get_type_hints(kind)
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f" Did you mean {place + near[0]!r}?" if near else ""
            raise ValueError(f"No setting {place + key!r}.{hint}")
    missing = [
        name
        for name, field in fields.items()
        if name not in values
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"The setting {place + missing[0]!r} is required and missing.")
    return kind(
        **{key: _value(hints[key], value, place=f"{place}{key}.") for key, value in values.items()}
    )


def merge_settings(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings laid over one another: what comes later wins, key by key; inputs stay as they are."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            if isinstance(value, Mapping):
                below = merged.get(key)
                value = merge_settings(below if isinstance(below, Mapping) else {}, value)
            merged[key] = value
    return merged


def set_value(values: dict[str, Any], item: str) -> None:
    """Puts one `dotted.name=value` into nested settings; values are JSON, or text.

    Raises:
        ValueError: If there is no "=", or the name leads through a single value.
    """
    name, equals, text = item.partition("=")
    if not equals:
        raise ValueError(f"--set {item!r}: write it as name=value, such as episode.max_turns=4.")
    *places, last = name.split(".")
    for place in places:
        if not isinstance(values.get(place), dict):
            if values.get(place) is not None:
                raise ValueError(
                    f"--set {item!r}: {place} is a single value and has no settings in it."
                )
            values[place] = {}
        values = values[place]
    try:
        values[last] = json.loads(text)
    except json.JSONDecodeError:
        values[last] = text


def _value(hint: Any, value: Any, *, place: str) -> Any:
    """The value as the type of its field wants it."""
    name = place[:-1]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        options = typing.get_args(hint)
        if type(None) in options and (value is None or value == NONE):
            return None
        options = tuple(option for option in options if option is not type(None))
        return _value(options[0], value, place=place) if len(options) == 1 else value
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, Mapping):
            return config_from_dict(hint, value, place=place)
        if not isinstance(value, hint):
            raise ValueError(
                f"The setting {name!r} is {value!r}; it has settings of its own, such as "
                f"{place}{dataclasses.fields(hint)[0].name}."
            )
    if typing.get_origin(hint) is tuple and isinstance(value, list | tuple):
        item = typing.get_args(hint)[0]
        return tuple(_value(item, each, place=place) for each in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint in (bool, int, float, str) and type(value) is not hint:
        kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
        raise ValueError(f"The setting {name!r} is {value!r}; it takes {kinds[hint]}.")
    return value
