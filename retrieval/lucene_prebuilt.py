"""In: the name of a prebuilt Pyserini index. Out: its folder on this machine, after a download."""

import importlib
import sys
from contextlib import redirect_stdout
from difflib import get_close_matches
from pathlib import Path


def download_prebuilt(name: str) -> Path:
    """The folder of the index; Pyserini downloads it at the first use.

    Raises:
        LookupError: If Pyserini knows no such index; the message offers the nearest names.
        OSError: If it cannot be downloaded.
        ImportError: If Pyserini, or the pandas that it needs for this, is missing.
    """
    try:
        util = importlib.import_module("pyserini.util")
    except ImportError as error:
        raise ImportError(
            f"Prebuilt indexes come by Pyserini's own download, which needs {error.name}: "
            "pip install --no-deps pyserini==1.6.0 && pip install pandas tqdm. An index that is "
            "here already needs neither: LuceneIndex.open(folder)."
        ) from error
    except OSError as error:  # later Pyserinis read the list of indexes from the network
        raise _unreachable(name, error) from error
    names = sorted(util.TF_INDEX_INFO)
    if name not in names:
        nearest = get_close_matches(name, names, n=3)
        hint = f"Did you mean {', '.join(nearest)}?" if nearest else f"There are {len(names)}."
        raise LookupError(f"Pyserini has no prebuilt BM25 index {name!r}. {hint}")
    try:
        with redirect_stdout(sys.stderr):
            return Path(util.download_prebuilt_index(name))
    except (OSError, ValueError) as error:
        raise _unreachable(name, error) from error


def _unreachable(name: str, error: Exception) -> OSError:
    return OSError(
        f"The prebuilt index {name!r} could not be downloaded ({error}). Is there a network? "
        "Otherwise unpack it by hand and open its folder: LuceneIndex.open(folder)."
    )
