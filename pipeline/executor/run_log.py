"""The log of a run over the shards of a set: where each was tried, how long it took, what failed.

It lies outside of the set: what is in it differs between runs that make the same bytes.
"""

import json
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from pipeline.executor.outcome import Attempt, Failure
from pipeline.storage.location import Location, make_folder, write_text

STORE_SECONDS = 30.0
"""A log in a store, where nothing can be appended, is put there anew this often."""
NAMED = 5
"""Failed shards that an error names."""


class RunLog:
    """JSON lines, one for each try of a shard."""

    def __init__(self, place: Location) -> None:
        self.place = place
        self._lines: list[str] = []
        self._put = time.monotonic()

    def add(self, shard: str, attempt: Attempt) -> None:
        """Tells of one try: shard, host, pid, attempt, seconds; error and traceback if it failed.

        A store is told at once of failures alone.
        """
        about = asdict(attempt)
        del about["index"]
        about["attempt"] = about.pop("number")
        if attempt.error is None:
            del about["error"], about["traceback"]
        line = json.dumps({"shard": shard, **about}, ensure_ascii=False) + "\n"
        if isinstance(self.place, Path):
            self.place.parent.mkdir(parents=True, exist_ok=True)
            with self.place.open("a", encoding="utf-8") as file:
                file.write(line)
            return
        self._lines.append(line)
        if attempt.error is not None or time.monotonic() - self._put > STORE_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Puts what a store has not been told yet."""
        if self._lines and not isinstance(self.place, Path):
            write_text(self.place, "".join(self._lines))
            self._put = time.monotonic()

    def failed(self, failures: Sequence[Failure], names: Sequence[str], among: int) -> str:
        """Names shards that failed, up to `NAMED`, with their errors, and this log.

        `names` are those of all tasks, by the failures' index.
        """
        named = [f"{names[each.index]}: {each.error}" for each in failures[:NAMED]]
        if len(failures) > NAMED:
            named.append(f"and {len(failures) - NAMED} more")
        return (
            f"{len(failures)} of {among} shards failed: {'; '.join(named)}; tracebacks in "
            f"{self.place}"
        )


@contextmanager
def run_log(folder: Location) -> Iterator[RunLog]:
    """A log of this run in a folder that keeps those of former ones."""
    now = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    make_folder(folder)
    log = RunLog(folder / f"{now}-{socket.gethostname()}-{os.getpid()}.jsonl")
    try:
        yield log
    finally:
        log.flush()
