"""The name or file of a recipe in, nested settings out; and a run's settings in, a recipe file out.

A recipe is a TOML file with the settings of `ExperimentConfig`. A line of its own, `method`, may name a
published method (`agents/methods.py`), whose settings lie beneath those of the file.
"""

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from .config import NONE, merge_settings
from .methods import method_settings

_FOLDER = Path(__file__).parent / "recipes"


def recipe_names() -> list[str]:
    """The recipes that come with maskgym."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def read_recipe(name: str, *, method: str = "") -> dict[str, Any]:
    """The settings of a recipe, those of its method beneath.

    Args:
        name: One of `recipe_names()`, or a TOML file of your own.
        method: Takes the place of the recipe's own method; empty to keep it.

    Raises:
        FileNotFoundError: If there is neither such a recipe nor such a file; names the nearest.
        ValueError: If the file is no TOML, or its method is unknown.
    """
    path = Path(name).expanduser()
    if name in recipe_names():
        path = _FOLDER / f"{name}.toml"
    elif not path.is_file():
        near = difflib.get_close_matches(name, recipe_names(), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise FileNotFoundError(
            f"No recipe {name!r}: give a TOML file, or one of {', '.join(recipe_names())}.{hint}"
        )
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{str(path)!r} is no TOML: {error}.") from None
    method = method or str(values.get("method", ""))
    values.pop("method", None)
    return merge_settings(method_settings(method), values) if method else values


def write_recipe(config: Any, path: Path) -> None:
    """Writes a configuration as a recipe that `read_recipe` turns into the same configuration."""
    import tomli_w

    path.write_text(tomli_w.dumps(_toml_values(config)), encoding="utf-8")


def _toml_values(config: Any) -> dict[str, Any]:
    """Settings for TOML: what is None by default is left out, other Nones are written as a word."""
    values: dict[str, Any] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        if value is None:
            if field.default is None:
                continue
            value = NONE
        values[field.name] = _toml_value(value)
    return values


def _toml_value(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _toml_values(value)
    if isinstance(value, Mapping):
        return {str(key): _toml_value(each) for key, each in value.items() if each is not None}
    if isinstance(value, list | tuple):
        return [_toml_value(each) for each in value]
    return value
