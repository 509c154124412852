"""Numbers and trajectories of a run in; lines, files and curves out. A full disk is a warning, no end.

What could not be written waits for room; no checkpoint is taken meanwhile, so that a run that is
resumed writes it again.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from .rollouts.trajectory import Trajectory
from .run_folder import RunFolder
from .step_metrics import Row
from .trackers import Tracker, open_trackers


class RunRecords:
    """Writes what a run shows of itself; on ranks that do not write, nothing."""

    def __init__(
        self, folder: RunFolder, report: Callable[[str], None], *, is_writer: bool
    ) -> None:
        """Writes nothing yet.

        Args:
            folder: Where to.
            report: Takes warnings.
            is_writer: Whether this rank writes.
        """
        self.folder = folder
        self._report = report
        self._is_writer = is_writer
        self._trackers: list[Tracker] = []

    def open(self, trackers: Sequence[str], *, first_step: int, is_resumed: bool) -> None:
        """Opens the trackers; drops what a start left that was killed before its first checkpoint."""
        if not self._is_writer:
            return
        if not is_resumed:
            self.folder.forget_after(-1)
        self._trackers = open_trackers(
            trackers, self.folder.path, config=self.folder.config, first_step=first_step
        )

    def close(self) -> None:
        """Closes the trackers."""
        for tracker in self._trackers:
            with suppress(OSError):  # it has said so before
                tracker.close()

    def log(self, where: Mapping[str, int], row: Row, times: Mapping[str, float] | None) -> None:
        """Adds the numbers of a step to `metrics.jsonl` and the curves.

        Args:
            where: `step` and whatever else says where the run is.
            row: Its numbers.
            times: Seconds and speeds, which differ from run to run.
        """
        if not self._is_writer:
            return
        line = {**where, **row, **({"time": dict(times)} if times else {})}
        self._written(lambda: self.folder.append_metrics(line))
        numbers = {**row, **{f"time/{k}": v for k, v in (times or {}).items()}}
        plain = {name: float(value) for name, value in numbers.items() if value is not None}
        # Curves are over optimiser steps; those of imitation would all fall on step 0.
        for tracker in [] if "supervised_step" in where else list(self._trackers):
            try:
                tracker.log(plain, where["step"])
            except Exception as error:  # a full disk, a lost connection; metrics.jsonl has it all
                self._trackers.remove(tracker)
                self._report(
                    f"warning: {type(tracker).__name__} failed and is left out from here on: {error}"
                )

    def save(self, name: str, trajectories: Sequence[Trajectory]) -> None:
        """Saves trajectories, and says what ended those that were no episodes."""
        if not self._is_writer:
            return
        if failed := [t for t in trajectories if t.error or not t.turns]:
            cause = failed[0].error or f"no action: {failed[0].end_reason}"
            self._report(
                f"warning: {name}: {len(failed)} of {len(trajectories)} rollouts were ended by an error; "
                f"the first, of task {failed[0].task_id!r}: {cause[:300]}"
            )
        self._written(lambda: self.folder.write_trajectories(name, trajectories))

    def is_complete(self) -> bool:
        """Whether every line is on disk; what waits is written now, if there is room."""
        return not self._is_writer or self._written(self.folder.write_waiting)

    def _written(self, write: Callable[[], object]) -> bool:
        try:
            write()
        except OSError as error:
            self._report(
                f"warning: Records could not be written ({error}). The run goes on; make room in "
                f"{str(self.folder.path)!r}, or check its rights."
            )
            return False
        return True
