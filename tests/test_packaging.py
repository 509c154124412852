"""What is installed is what the repository holds, and its core needs none of the extras."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import maskgym

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("agents", "envs", "masking", "retrieval", "scripts")
EXTRAS = {"train", "vllm", "vllm-cpu", "parquet", "lucene", "dense", "ner", "skyrl", "dev"}
SPDX_LICENCE = "Apache-2.0"


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_every_folder_with_an_init_file_is_listed(pyproject: dict[str, Any]) -> None:
    there = {"maskgym"}
    for folder in FOLDERS:
        for init in (ROOT / folder).rglob("__init__.py"):
            there.add(".".join(["maskgym", *init.parent.relative_to(ROOT).parts]))
    assert set(pyproject["tool"]["setuptools"]["packages"]) == there


def test_every_folder_with_modules_has_an_init_file() -> None:
    for folder in FOLDERS:
        for module in (ROOT / folder).rglob("*.py"):
            assert (module.parent / "__init__.py").is_file(), (
                f"{module.parent} would not be shipped"
            )


def test_every_data_file_of_a_package_is_listed(pyproject: dict[str, Any]) -> None:
    listed = pyproject["tool"]["setuptools"]["package-data"]
    shipped = {
        path
        for package, patterns in listed.items()
        for pattern in patterns
        for path in ROOT.joinpath(*package.split(".")[1:]).glob(pattern)
    }
    there = {
        path
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix not in {".py", ".sh"} and "__pycache__" not in path.parts
    }
    assert there | {ROOT / "py.typed"} == shipped


def test_the_version_is_the_same_everywhere(pyproject: dict[str, Any]) -> None:
    assert maskgym.__version__ == pyproject["project"]["version"]
    assert maskgym.__version__ == importlib.metadata.version("maskgym")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[{re.escape(maskgym.__version__)}\]", changelog, re.MULTILINE)


def test_every_promised_extra_exists(pyproject: dict[str, Any]) -> None:
    assert set(pyproject["project"]["optional-dependencies"]) >= EXTRAS
    provided = importlib.metadata.metadata("maskgym").get_all("Provides-Extra") or []
    assert set(provided) >= EXTRAS


def test_the_core_has_few_dependencies(pyproject: dict[str, Any]) -> None:
    names = {re.split(r"[<>=;\[ ]", line)[0] for line in pyproject["project"]["dependencies"]}
    assert names == {"ahocorasick_rs", "gymnasium", "math-verify", "numpy", "tqdm"}


def test_setup_pins_the_torch_that_the_extra_train_accepts(pyproject: dict[str, Any]) -> None:
    from packaging.requirements import Requirement

    script = (ROOT / "scripts" / "setup.sh").read_text(encoding="utf-8")
    pin = re.search(r'TORCH_FOR_CPU="torch==([\d.]+)"', script)
    assert pin is not None
    extras = pyproject["project"]["optional-dependencies"]
    torch = next(r for r in map(Requirement, extras["train"]) if r.name == "torch")
    assert torch.specifier.contains(pin[1])
    try:
        needs = importlib.metadata.requires("vllm-cpu") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("vllm-cpu is not installed: nothing to compare torch's pin with")
    pinned = {
        r.specifier.contains(f"{pin[1]}+cpu") for r in map(Requirement, needs) if r.name == "torch"
    }
    assert pinned == {True}


def test_the_package_is_typed_and_licensed() -> None:
    package = Path(maskgym.__file__).parent
    assert (package / "py.typed").is_file()
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert importlib.metadata.metadata("maskgym")["License-Expression"] == SPDX_LICENCE


CORE_WITHOUT_EXTRAS = """
import importlib, pkgutil, sys

HEAVY = set(sys.argv[1].split(","))

class Blocker:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in HEAVY:
            raise ModuleNotFoundError(f"No module named {name!r} (blocked)", name=name)

sys.meta_path.insert(0, Blocker)
import maskgym
from maskgym import envs, masking, retrieval
from maskgym.scripts import cli

count = 0
for package in (envs, masking, retrieval):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
        count += 1
assert cli.main(["--help"]) == 0
assert not HEAVY & {name.partition(".")[0] for name in sys.modules}
print("imported", count)
"""


def run_without(modules: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-c", CORE_WITHOUT_EXTRAS, modules],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_core_imports_without_any_extra() -> None:
    heavy = (
        "torch,transformers,tokenizers,vllm,pyarrow,numba,scipy,spacy,faiss,matplotlib,skyrl_gym"
    )
    result = run_without(heavy)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout.split()[-1]) > 10


def test_the_blocker_of_extras_blocks() -> None:
    result = run_without("gymnasium")
    assert result.returncode != 0
    assert "No module named 'gymnasium' (blocked)" in result.stderr
