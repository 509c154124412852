"""A JSON object in, a configuration dataclass out; misspelt keys are refused with the nearest name."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

C = TypeVar("C")


def config_from_dict(kind: type[C], values: Mapping[str, Any], *, place: str = "") -> C:
    """The configuration that a mapping describes, nested dataclasses included.

    Raises:
        ValueError: If a key is unknown (with the nearest name), one that is required is missing, or
            the configuration itself refuses a value.
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


def _value(hint: Any, value: Any, *, place: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, Mapping):
            return config_from_dict(hint, value, place=place)
        if not isinstance(value, hint):
            raise ValueError(
                f"The setting {place[:-1]!r} is {value!r}; it has settings of its own, such as "
                f"{place}{dataclasses.fields(hint)[0].name}."
            )
    if typing.get_origin(hint) in (typing.Union, types.UnionType) and value is not None:
        options = [o for o in typing.get_args(hint) if o is not type(None)]
        return _value(options[0], value, place=place) if len(options) == 1 else value
    if typing.get_origin(hint) is tuple and isinstance(value, list):
        return tuple(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value
