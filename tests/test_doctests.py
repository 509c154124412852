"""Every example in a docstring of maskgym gives what it says.

`pytest --doctest-modules` would import each file a second time under its folder's name.
"""

import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import maskgym
from maskgym.scripts.cli import EXTRA_OF_MODULE

PACKAGES = ("agents", "envs", "masking", "retrieval", "scripts")
ROOT = Path(maskgym.__file__).parent


def module_names() -> list[str]:
    names = ["maskgym"]
    for package in PACKAGES:
        names.append(f"maskgym.{package}")
        folder = [str(ROOT / package)]
        names += [m.name for m in pkgutil.walk_packages(folder, f"maskgym.{package}.")]
    return names


@pytest.mark.parametrize("name", module_names())
def test_examples_in_docstrings_hold(name: str) -> None:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in EXTRA_OF_MODULE:
            raise
        pytest.skip(f"{missing} (extra {EXTRA_OF_MODULE[missing]!r}) is not installed")
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0


def test_all_modules_are_visited() -> None:
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    assert len(module_names()) == len(files) + 1


def test_the_environment_in_the_guide_for_contributors_keeps_the_contract() -> None:
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    assert len(examples) == 1
    result = subprocess.run(
        [sys.executable, "-P", "-c", examples[0]],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
