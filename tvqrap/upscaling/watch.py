"""Photographs that appear in a folder, once they are written. Uses neither torch nor numpy."""

from pathlib import Path

from tvqrap.upscaling.jobs import Job

SECONDS_BETWEEN_LOOKS = 2.0


class NewPhotographs:
    """Tells the photographs that are new, or have changed, and are written to their end.

    A file counts as written when its size and time of change are those of the look before.
    """

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[int, int]] = {}
        self._told: dict[Path, tuple[int, int]] = {}

    def among(self, jobs: list[Job]) -> list[Job]:
        """Those of a new look that an earlier call has not told in their present state."""
        seen, new = {}, []
        for job in jobs:
            try:
                status = job.source.stat()
            except OSError:  # removed since it was listed
                continue
            state = seen[job.source] = (status.st_size, status.st_mtime_ns)
            if state == self._seen.get(job.source) and state != self._told.get(job.source):
                new.append(job)
                self._told[job.source] = state
        self._seen = seen
        # A photograph that is gone and comes back is a new one.
        self._told = {path: state for path, state in self._told.items() if path in seen}
        return new
