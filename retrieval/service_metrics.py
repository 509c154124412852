"""In: what the workers of a search service did. Out: their sum, in Prometheus' text format."""

import fcntl
import mmap
import os
from bisect import bisect_left
from http import HTTPStatus
from pathlib import Path

_STATUSES = tuple(
    int(status)
    for status in (
        HTTPStatus.OK,
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.METHOD_NOT_ALLOWED,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    )
)
_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0)
_COUNTERS = {
    "queries": "Queries in requests that were answered.",
    "cut_queries": "Queries that were longer than the service reads.",
    "cache_hits": "Queries answered from memory.",
    "cache_waits": "Queries answered by a search that another request had under way.",
    "cache_misses": "Queries that were searched for.",
    "failed_searches": "Queries whose search failed.",
    "search_seconds": "Seconds spent in searches, over all workers and threads.",
}
_GAUGES = {
    "pending_queries": "Queries that wait for a search.",
    "inline_workers": "Workers whose searches are so short that they run without a thread.",
    "ready_workers": "Workers that answer.",
}
_NUM_HISTOGRAM = len(_BOUNDS_S) + 2  # one above all bounds, and the sum
_NAMES = (*_COUNTERS, *_GAUGES)
_ROW = len(_NAMES) + len(_STATUSES) + _NUM_HISTOGRAM
_MAX_WORKERS = 256


class ServiceMetrics:
    """Counters of one worker, in a file that all workers of a service share.

    A worker writes its own row and reads all, so whichever is asked tells of the whole service. The
    row of one that died goes to the one that replaces it, and no count is lost.
    """

    def __init__(self, path: Path | None = None, *, is_worker: bool = True) -> None:
        """Opens the counters.

        Args:
            path: A file made by `create`; None for a worker on its own.
            is_worker: Whether this process counts, rather than reads alone.
        """
        num_rows = 1 if path is None else _MAX_WORKERS
        size_bytes = num_rows * _ROW * 8
        self._file: int | None = None
        if path is None:
            self._map = mmap.mmap(-1, size_bytes)
        else:
            self._file = os.open(path, os.O_RDWR)
            self._map = mmap.mmap(self._file, size_bytes)
        self._cells = memoryview(self._map).cast("d")
        self._start = self._claim_row(num_rows) * _ROW if is_worker else 0
        if is_worker:
            for name in _GAUGES:
                self.set(name, 0)

    @staticmethod
    def create(path: Path) -> None:
        """Makes the file that the workers share."""
        with path.open("xb") as file:
            file.truncate(_MAX_WORKERS * _ROW * 8)

    def add(self, name: str, amount: float = 1) -> None:
        """Counts."""
        self._cells[self._start + _PLACE[name]] += amount

    def set(self, name: str, value: float) -> None:
        """Says how much there is now."""
        self._cells[self._start + _PLACE[name]] = value

    def answered(self, status: int, seconds: float) -> None:
        """Counts a request with its status and the time that it took."""
        self._cells[self._start + _STATUS_PLACE[status]] += 1
        histogram = self._start + _HISTOGRAM
        self._cells[histogram + bisect_left(_BOUNDS_S, seconds)] += 1
        self._cells[histogram + _NUM_HISTOGRAM - 1] += seconds

    def total(self, name: str) -> float:
        """The sum over all workers."""
        return self._sum(_PLACE[name])

    def render(self) -> str:
        """All sums, as Prometheus reads them."""
        lines = [
            "# HELP maskgym_requests_total Requests by HTTP status.",
            "# TYPE maskgym_requests_total counter",
        ]
        for status, place in _STATUS_PLACE.items():
            lines.append(f'maskgym_requests_total{{status="{status}"}} {self._sum(place):.0f}')
        for kind, group in (("counter", _COUNTERS), ("gauge", _GAUGES)):
            for name, help_text in group.items():
                shown = f"maskgym_{name}{'_total' if kind == 'counter' else ''}"
                lines += [f"# HELP {shown} {help_text}", f"# TYPE {shown} {kind}"]
                lines.append(f"{shown} {self.total(name):.12g}")
        return "\n".join([*lines, *self._render_histogram()]) + "\n"

    def close(self) -> None:
        """Lets go of the row and the file; the counts stay in the file."""
        self._cells.release()
        self._map.close()
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _render_histogram(self) -> list[str]:
        name = "maskgym_request_seconds"
        lines = [
            f"# HELP {name} Seconds from the arrival of a request to its answer.",
            f"# TYPE {name} histogram",
        ]
        count = 0.0
        bounds = [*map("{:g}".format, _BOUNDS_S), "+Inf"]
        for place, bound in enumerate(bounds, start=_HISTOGRAM):
            count += self._sum(place)
            lines.append(f'{name}_bucket{{le="{bound}"}} {count:.0f}')
        seconds = self._sum(_HISTOGRAM + _NUM_HISTOGRAM - 1)
        return [*lines, f"{name}_sum {seconds:.9g}", f"{name}_count {count:.0f}"]

    def _sum(self, place: int) -> float:
        return sum(self._cells[place::_ROW])

    def _claim_row(self, num_rows: int) -> int:
        if self._file is None:
            return 0
        for row in range(num_rows):
            try:
                # The system lets go of the lock when the process ends, however it ends.
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, row)
            except OSError:
                continue
            return row
        raise OSError(f"This service has {num_rows} workers already; start fewer.")


_PLACE = {name: place for place, name in enumerate(_NAMES)}
_STATUS_PLACE = {status: place for place, status in enumerate(_STATUSES, start=len(_NAMES))}
_HISTOGRAM = len(_NAMES) + len(_STATUSES)
