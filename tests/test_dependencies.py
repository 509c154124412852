"""Imports run one way: scripts -> agents -> envs -> {retrieval, masking}; the core stays light."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    "masking": {"masking"},
    "retrieval": {"retrieval"},
    "envs": {"envs", "masking", "retrieval"},
    "agents": {"agents", "envs", "masking", "retrieval"},
}
LIGHT_FOLDERS = ("masking", "retrieval", "envs")
HEAVY_MODULES = {
    "datasets",
    "faiss",
    "jnius",
    "matplotlib",
    "numba",
    "pyarrow",
    "pyserini",
    "safetensors",
    "skyrl_gym",
    "spacy",
    "tokenizers",
    "torch",
    "transformers",
    "vllm",
}
OUR_NAMES = {"maskgym", "scripts", "tests", *MAY_IMPORT}


def imported_names(node: ast.AST, package: str) -> list[str]:
    """Absolute names of the modules that an import statement in `package` may load."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    if not node.level:
        return [node.module or ""]
    parts = package.split(".")
    base = ".".join(parts[: len(parts) - node.level + 1])
    if node.module:
        return [f"{base}.{node.module}"]
    return [f"{base}.{alias.name}" for alias in node.names]  # `from .. import envs`


def run_at_import(node: ast.AST) -> Iterator[ast.AST]:
    """The statements that importing a module runs: not those in functions or for type checkers."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            yield from (
                nested for other in child.orelse for nested in [other, *run_at_import(other)]
            )
            continue
        yield child
        yield from run_at_import(child)


def violations(source: str, path: str) -> list[str]:
    """What is wrong with the imports of a file; `path` is relative to the root."""
    package = ".".join(["maskgym", *Path(path).parent.parts])
    folder = Path(path).parts[0]
    tree = ast.parse(source)
    found = []
    for node in ast.walk(tree):
        for name in imported_names(node, package):
            where = f"{path}:{getattr(node, 'lineno', 0)}: {name}"
            is_relative = isinstance(node, ast.ImportFrom) and node.level > 0
            if not is_relative and name.split(".")[0] in OUR_NAMES:
                found.append(f"{where} (import neighbours relatively)")
            elif is_relative and [*name.split("."), ""][1] not in MAY_IMPORT[folder]:
                found.append(f"{where} (wrong direction)")
    if folder in LIGHT_FOLDERS:
        for node in run_at_import(tree):
            for name in imported_names(node, package):
                if name.split(".")[0] in HEAVY_MODULES:
                    found.append(
                        f"{path}:{getattr(node, 'lineno', 0)}: {name} (import it where it is used)"
                    )
    return found


def test_imports_run_one_way_and_the_core_stays_light() -> None:
    paths = [path for folder in MAY_IMPORT for path in sorted((ROOT / folder).rglob("*.py"))]
    assert len(paths) > len(MAY_IMPORT)
    found = [
        violation
        for path in paths
        for violation in violations(
            path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix()
        )
    ]
    assert found == []


def test_the_root_imports_only_envs_and_absolutely() -> None:
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    names = [
        (name, getattr(node, "level", 0))
        for node in ast.walk(tree)
        for name in imported_names(node, "maskgym")
    ]
    assert names == [("maskgym.envs", 0)]


def test_no_package_imports_the_tests() -> None:
    for path in sorted((ROOT / "scripts").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not any("tests" in name.split(".") for name in imported_names(node, "maskgym"))


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("masking/policies.py", "from ..envs import Task"),
        ("masking/policies.py", "from .. import retrieval"),
        ("retrieval/bm25.py", "from ..masking.spans import Span"),
        ("envs/base.py", "from ..agents.engines.engine import Engine"),
        ("envs/verifiers/math.py", "from ...agents import chat"),
        ("envs/base.py", "def f():\n    from ..agents import chat"),
        ("agents/trainer.py", "from ..scripts.console import format_table"),
        ("agents/trainer.py", "from maskgym.envs import Task"),
        ("agents/trainer.py", "import maskgym"),
        ("agents/trainer.py", "from envs.tasks import Task"),
        ("envs/__init__.py", "from .. import __version__"),
        ("envs/tools.py", "import torch.nn"),
        ("envs/tools.py", "try:\n    import vllm\nexcept ImportError:\n    pass"),
        ("retrieval/dense.py", "class Index:\n    import faiss"),
        ("masking/entities.py", "if TYPE_CHECKING:\n    pass\nelse:\n    from spacy import load"),
    ],
)
def test_a_wrong_import_is_found(path: str, source: str) -> None:
    assert len(violations(source, path)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("envs/search.py", "from ..retrieval import BM25Index\nfrom .tasks import Task"),
        ("envs/verifiers/math.py", "from ..verdicts import Grade\nfrom ...masking import mask"),
        ("agents/trainer.py", "import torch\nfrom ..envs import Task\nfrom ..masking import mask"),
        ("retrieval/rows.py", "def read():\n    import pyarrow"),
        ("retrieval/dense.py", "if typing.TYPE_CHECKING:\n    import faiss"),
    ],
)
def test_a_right_import_is_accepted(path: str, source: str) -> None:
    assert violations(source, path) == []
