"""The log of a run over the shards of a set: host, seconds and error of each attempt.

The log lies outside of the set, because it differs between runs that make the same bytes.
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
"""How often a log in a store is written anew: nothing can be appended to an object."""
NAMED = 5
"""How many failed shards an error names."""


class RunLog:
    """JSON lines, one for each attempt of a shard."""

    def __init__(self, file: Location) -> None:
        self.file = file
        self._lines: list[str] = []
        self._written_at = time.monotonic()

    def add(self, shard: str, attempt: Attempt) -> None:
        """Adds the shard, host, pid, number and seconds of an attempt, and the error if it failed.

        A file has the line at once. A store has a failure at once, other lines every
        `STORE_SECONDS`.
        """
        about = asdict(attempt)
        del about["index"]
        about["attempt"] = about.pop("number")
        if attempt.error is None:
            del about["error"], about["traceback"]
        line = json.dumps({"shard": shard, **about}, ensure_ascii=False) + "\n"
        if isinstance(self.file, Path):
            with self.file.open("a", encoding="utf-8") as opened:
                opened.write(line)
            return
        self._lines.append(line)
        if attempt.error is not None or time.monotonic() - self._written_at > STORE_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Writes the lines that a store does not have yet."""
        if self._lines and not isinstance(self.file, Path):
            write_text(self.file, "".join(self._lines))
            self._written_at = time.monotonic()

    def failed(self, failures: Sequence[Failure], names: Sequence[str], among: int) -> str:
        """The message that names failed shards, up to `NAMED`, with their errors, and this log.

        `names` are the names of all tasks; a failure's index refers to them.
        """
        named = [f"{names[each.index]}: {each.error}" for each in failures[:NAMED]]
        if len(failures) > NAMED:
            named.append(f"and {len(failures) - NAMED} more")
        return (
            f"{len(failures)} of {among} shards failed: {'; '.join(named)}; tracebacks in "
            f"{self.file}"
        )


@contextmanager
def run_log(folder: Location) -> Iterator[RunLog]:
    """A new log in a folder that keeps the logs of former runs."""
    now = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    make_folder(folder)
    log = RunLog(folder / f"{now}-{socket.gethostname()}-{os.getpid()}.jsonl")
    try:
        yield log
    finally:
        log.flush()
