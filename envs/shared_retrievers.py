"""In: the folder of an index, or the address of a search service. Out: a lease on its retriever.

All environments of a process that name the same index share one retriever: hundreds of episodes are
played at once, and each would otherwise open the index again. The rollouts of a group ask the same
things, so its answers are cached. It is closed with the last lease.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from weakref import WeakValueDictionary

from ..retrieval import CachedRetriever, Retriever, load_index
from ..retrieval.client import RemoteRetriever

TOKEN_VARIABLE = "MASKGYM_TOKEN"
"""The environment variable with the token of a service that asks for one."""

_URL = ("http://", "https://")
_NO_LIMIT_S = 24 * 3600.0
_EARLIER = 0.9  # so that the client, which knows what went wrong, gives up before its caller


class _Opened:
    """A retriever and how many hold it."""

    def __init__(self, retriever: Retriever) -> None:
        self.retriever = retriever
        self.num_leases = 0


_lock = threading.Lock()
_opened: WeakValueDictionary[tuple[object, ...], _Opened] = WeakValueDictionary()


def _forget() -> None:
    """In a forked child: another thread may have held the lock, or had a search under way."""
    global _lock
    _lock = threading.Lock()
    _opened.clear()


os.register_at_fork(after_in_child=_forget)


class RetrieverLease:
    """The right to use a shared retriever until `close`."""

    def __init__(self, opened: _Opened) -> None:
        self._opened: _Opened | None = opened
        self.retriever = opened.retriever

    def close(self) -> None:
        """Gives it back; with the last lease the retriever is closed. Doing it again is nothing."""
        with _lock:
            opened, self._opened = self._opened, None
            if opened is None:
                return
            opened.num_leases -= 1
            if opened.num_leases:
                return
            for key in [key for key, value in _opened.items() if value is opened]:
                del _opened[key]
        opened.retriever.close()


def lease_retriever(source: str | Path, *, timeout_s: float | None) -> RetrieverLease:
    """A lease on the retriever of an index folder, of ``pyserini:NAME``, or of a service's URL.

    Args:
        source: The folder, the name, or ``http://host:port``; $MASKGYM_TOKEN is sent to a service.
        timeout_s: Seconds that a search of the caller may take; a service is given up a little
            earlier, with the reason. None for no limit.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it is no index, or the URL is none.
    """
    is_service = str(source).startswith(_URL)
    key = (str(source), timeout_s) if is_service else (str(source), *_state_of(Path(source)))
    with _lock:
        opened = _opened.get(key)
        if opened is None:
            inner = _connect(str(source), timeout_s) if is_service else load_index(source)
            opened = _Opened(CachedRetriever(inner))
            _opened[key] = opened
        opened.num_leases += 1
        return RetrieverLease(opened)


def _connect(url: str, timeout_s: float | None) -> Retriever:
    return RemoteRetriever(
        url,
        timeout_s=_NO_LIMIT_S if timeout_s is None else _EARLIER * timeout_s,
        token=os.environ.get(TOKEN_VARIABLE) or None,
    )


def _state_of(folder: Path) -> tuple[object, ...]:
    """What changes when another index takes the place of this one."""
    try:
        return (
            folder.resolve(),
            *((e.name, e.stat().st_mtime_ns) for e in sorted(folder.iterdir())),
        )
    except OSError:
        return ()
