"""In: a transformer's folder, or its name on the hub. Out: the folder on this machine, and its hash."""

import hashlib
import json
from difflib import get_close_matches
from pathlib import Path
from typing import Any

CONFIG_FILE = "config.json"

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
"""The first kind that is there is the one that transformers loads."""
_TOKENISER = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "merges.txt")
_TOKENISER_MODELS = ("*.model", "special_tokens_map.json", "added_tokens.json")
_NOT_NEEDED = ["onnx/*", "openvino/*", "*.h5", "*.msgpack", "*.ot", "*.onnx", "*.gguf"]


def resolve_model(model: str | Path) -> Path:
    """The folder of a model: the one named, or the hub's, downloaded once and kept in its cache.

    Raises:
        ValueError: If it is neither a model folder nor to be had from the hub.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        if not (folder / CONFIG_FILE).is_file():
            raise ValueError(
                f"{folder} is no transformer: it has no {CONFIG_FILE}. Name the folder that "
                "save_pretrained wrote, or that was downloaded from the hub."
            )
        return folder.absolute()
    if _is_hub_name(str(model)):
        return _from_hub(str(model))
    raise ValueError(
        f"There is no model folder {folder}.{_nearest(folder)} Name one that is there."
    )


def model_hash(folder: Path) -> str:
    """Names configuration, tokeniser and weights by their content; about a second a gigabyte.

    Raises:
        ValueError: If the folder has no weights.
    """
    weights = _weight_files(folder)
    if not weights:
        raise ValueError(
            f"{folder} has no weights ({' or '.join(_WEIGHTS)}). Download or copy it again."
        )
    names = [CONFIG_FILE, *_TOKENISER]
    files = [folder / name for name in names if (folder / name).is_file()]
    files += [path for pattern in _TOKENISER_MODELS for path in folder.glob(pattern)]
    digest = hashlib.sha256()
    for path in sorted({*files, *weights}):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.name} {content}\n".encode())
    return digest.hexdigest()


def read_model_json(folder: Path, name: str) -> Any:
    """One of the model's JSON files, or None where it has no such file.

    Raises:
        ValueError: If it is no JSON.
    """
    path = folder / name
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} cannot be read ({error}). Download it again.") from error


def _weight_files(folder: Path) -> list[Path]:
    for pattern in _WEIGHTS:
        found = list(folder.glob(pattern))
        if found:
            return found
    return []


def _is_hub_name(model: str) -> bool:
    return model.count("/") <= 1 and not model.startswith((".", "/", "~")) and "\\" not in model


def _from_hub(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ValueError(
            f"There is no folder {name}, and the hub needs: pip install 'maskgym[dense]'."
        ) from error
    try:
        # The cache first: with it nothing is asked of the network, and searches work offline.
        folder = snapshot_download(name, ignore_patterns=_NOT_NEEDED, local_files_only=True)
        if _weight_files(Path(folder)):
            return Path(folder)
    except (OSError, ValueError):
        pass
    try:
        return Path(snapshot_download(name, ignore_patterns=_NOT_NEEDED))
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"{name} is no folder here{_nearest(Path(name))} and could not be had from the hub "
            f"({type(error).__name__}: {reason}). Give the path of a downloaded model."
        ) from error


def _nearest(folder: Path) -> str:
    if not folder.parent.is_dir():
        return ""
    names = [entry.name for entry in folder.parent.iterdir() if (entry / CONFIG_FILE).is_file()]
    nearest = get_close_matches(folder.name, names, n=1)
    return f" (did you mean {folder.with_name(nearest[0])}?)" if nearest else ""
