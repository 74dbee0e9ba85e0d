"""The ledger of a set in the making, so that no finished shard is made again.

`rows/SET/NAME.json` holds the record of each finished shard, a line of JSON and the line's SHA-256.
The worker that made the shard left its rows of the index in `rows/SET/NAME.parquet`.
`rows/SET/code` holds the digest of the code that made them. A record counts only if it and its
shard are intact, and plan and code are those of this run. Shards of earlier runs in other folders
count as well: the set gets a link or copy. Workers write the records of the shards that they make,
the driver all else.
"""

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, Protocol, TypeVar, cast

from pydantic import TypeAdapter

from pipeline.executor.intact import intact_shards
from pipeline.executor.outcome import OtherMachineError
from pipeline.executor.prefetch import in_threads
from pipeline.executor.run import ExecutorKind
from pipeline.shards.index import part_path
from pipeline.shards.manifest import COMPANIONS, MANIFEST, ShardRow, is_intact
from pipeline.storage.location import (
    Location,
    StorageError,
    copy_file,
    file_sizes,
    make_folder,
    remove,
    write_text,
)
from tvqrap.runtime.atomic import is_temporary
from tvqrap.runtime.errors import UserError

log = logging.getLogger(__name__)

_OWN_FILE = re.compile(
    r"\d{6}\.tar(\.json|\.parquet)?|" + "|".join(map(re.escape, (MANIFEST, *COMPANIONS)))
)
"""Shards, their records and rows of the index, the manifest and what lies beside it. But for
temporary files, no other file is removed."""


class Finished(Protocol):
    """The record of a finished shard."""

    @property
    def row(self) -> ShardRow:
        """The manifest's entry, with its plan."""

    @property
    def machine(self) -> object:
        """The kind of machine and the libraries that made it, comparable and printable."""


Shard = TypeVar("Shard", bound=Finished)

_CODE = "code"
_THREADS = 8


@dataclass(frozen=True)
class EarlierRuns:
    """Folders with finished shards of earlier runs, and the digest of the code that they must
    have."""

    code: str = ""
    """Digest of the code that decides shards: that of this run."""
    folders: tuple[Location, ...] = ()
    """Working folders: each holds sets, and their records in `rows`."""


@dataclass(frozen=True)
class Recorder(Generic[Shard]):
    """Writes the records of finished shards."""

    rows: Location
    form: type[Shard]

    def __call__(self, shard: Shard) -> None:
        """Writes a shard's record: the shard counts in a later run."""
        text = TypeAdapter(self.form).dump_json(shard).decode()
        write_text(self.rows / f"{shard.row.name}.json", f"{text}\n{_digest(text)}\n")


class Ledger(Generic[Shard]):
    """Records of the finished shards of one set, by shard name."""

    def __init__(
        self,
        work: Location,
        name: str,
        plans: Mapping[str, str],
        form: type[Shard],
        earlier: EarlierRuns = EarlierRuns(),  # frozen
        take: Callable[[Shard], bool] = lambda shard: True,
        *,
        executor: ExecutorKind = "serial",
        workers: int = 1,
    ) -> None:
        """Reads the records of the set `work/name`, and sweeps all that does not count.

        `plans` has the plan of each shard of the set, in order. `form` is the dataclass of a
        record. Missing shards are taken over from `earlier` runs where `take` agrees. Many shards
        of the set are hashed on the executor.
        """
        self.out = work / name
        self.done: dict[str, Shard] = {}
        self.taken_over = 0
        """Shards that were taken over from other folders."""
        self._rows = work / "rows" / name
        self.record: Recorder[Shard] = Recorder(self._rows, form)
        self._plans = plans
        self._form = TypeAdapter(form)
        self._added = False
        """Whether this run made a shard."""
        for folder in (self.out, self._rows):
            make_folder(folder)
        if _text(self._rows / _CODE) == earlier.code:
            self._find_own(executor, workers)
        self.sweep()
        write_text(self._rows / _CODE, earlier.code)
        for folder in earlier.folders:
            if self.missing and _text(folder / "rows" / name / _CODE) == earlier.code:
                self._take_over(folder / name, folder / "rows" / name, take)

    @property
    def missing(self) -> list[str]:
        """Names of the shards that are still to be made."""
        return [name for name in self._plans if name not in self.done]

    @property
    def machine(self) -> object | None:
        """The kind of machine that made the finished shards; None while there is none."""
        return next((shard.machine for shard in self.done.values()), None)

    @property
    def shards(self) -> list[Shard]:
        """The records of all shards in order; none may be missing."""
        return [self.done[name] for name in self._plans]

    def add(self, shard: Shard) -> None:
        """Counts a shard that this run made and recorded.

        Raises OtherMachineError where another kind of machine made it than the finished ones.
        """
        check_machine(f"{self.out / shard.row.name}: made", shard.machine, self.machine)
        self.done[shard.row.name] = shard
        self._added = True

    def drop_earlier(self) -> bool:
        """Drops the shards of earlier runs, if this run made none; whether there were any."""
        dropped = not self._added and bool(self.done)
        if dropped:
            log.warning(
                "%s: %d shards of an earlier run were made on %s, and no worker is of this kind: "
                "they are made again",
                self.out,
                len(self.done),
                self.machine,
            )
            self.done.clear()
        return dropped

    def sweep(self) -> None:
        """Removes the files of writers that died and of other plans.

        Only files that are named as this module and the shards' writers name them.
        """
        _remove_others(self.out, self.done)
        kept = (f"{name}.{ending}" for name in self.done for ending in ("json", "parquet"))
        _remove_others(self._rows, dict.fromkeys(kept))

    def check_there(self) -> None:
        """Raises UserError where a recorded shard is no longer in the folder as it was made."""
        sizes = file_sizes(self.out)
        rows = [shard.row for shard in self.done.values()]
        gone = [row for row in rows if sizes.get(row.name) != row.bytes]
        if gone:
            raise UserError(
                f"{self.out / gone[0].name}: found {sizes.get(gone[0].name, 'nothing')}, expected "
                f"the {gone[0].bytes} bytes that were written; {len(gone)} of {len(rows)} finished "
                "shards are gone, and the same command makes them again"
            )

    def _find_own(self, executor: ExecutorKind, workers: int) -> None:
        """Finds the shards of the set that an earlier run finished."""
        paths = [self._rows / f"{name}.json" for name in self._plans]
        records = in_threads(self._recorded, paths, _THREADS)
        found = [
            shard
            for shard, (name, plan) in zip(records, self._plans.items(), strict=True)
            if shard is not None and (shard.row.name, shard.row.plan) == (name, plan)
        ]
        rows = [shard.row for shard in found]
        sound = intact_shards(self.out, rows, file_sizes(self.out), executor, workers)
        intact = [shard for shard, whole in zip(found, sound, strict=True) if whole]
        # A run that was killed can leave shards of two kinds of machines.
        self.done = {shard.row.name: shard for shard in _of_most(intact)}

    def _recorded(self, path: Location) -> Shard | None:
        try:
            text, digest, *_ = path.read_bytes().decode().split("\n")
            return self._form.validate_json(text) if _digest(text) == digest else None
        except StorageError:
            raise
        except (OSError, ValueError):
            return None

    def _take_over(self, out: Location, rows: Location, take: Callable[[Shard], bool]) -> None:
        """Takes shards of the set `out` of an earlier run, whose records are in `rows`."""
        wanted = {self._plans[name]: name for name in self.missing}
        paths = [rows / name for name in file_sizes(rows) if name.endswith(".json")]
        found = {
            shard.row.plan: shard
            for shard in in_threads(self._recorded, paths, _THREADS)
            if shard is not None and shard.row.plan in wanted and take(shard)
            if self.machine in (None, shard.machine)
        }
        copied = partial(self._copied, out, file_sizes(out), wanted)
        for shard in in_threads(copied, _of_most(found.values()), _THREADS):
            if shard is not None:
                self.done[shard.row.name] = shard
                self.taken_over += 1

    def _copied(
        self, out: Location, sizes: Mapping[str, int], wanted: Mapping[str, str], shard: Shard
    ) -> Shard | None:
        """A shard of the folder `out` as this set has it; None where it is damaged or gone."""
        assert shard.row.plan is not None
        name = wanted[shard.row.plan]
        try:
            if not is_intact(out / shard.row.name, shard.row, sizes):
                return None
            copy_file(out / shard.row.name, self.out / name)
        except FileNotFoundError:  # its run removes it just now
            return None
        with suppress(FileNotFoundError):  # then they are read from the shard
            copy_file(part_path(out / shard.row.name), part_path(self.out / name))
        renamed: Any = replace(shard, row=replace(shard.row, name=name))  # type: ignore[type-var]
        self.record(renamed)
        return cast(Shard, renamed)


def _of_most(shards: Collection[Shard]) -> list[Shard]:
    """Those of the kind of machine that made most of the shards."""
    kinds = Counter(repr(shard.machine) for shard in shards)
    kind = next((kind for kind, _ in kinds.most_common(1)), None)
    return [shard for shard in shards if repr(shard.machine) == kind]


def check_machine(what: str, machine: object, expected: object | None) -> None:
    """Raises OtherMachineError unless a machine is of the kind of the finished shards, if any."""
    if expected not in (None, machine):
        raise OtherMachineError(
            f"{what} on {machine}, the finished shards on {expected}; expected workers of one "
            "kind, because another kind may give other bytes"
        )


def _text(path: Location) -> str | None:
    """The text of a file; None where there is none."""
    try:
        return path.read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return None


def _digest(text: str) -> str:
    """Checksum of a record, whose counts nothing else could confirm."""
    return hashlib.sha256(text.encode()).hexdigest()


def _remove_others(folder: Location, kept: Mapping[str, object]) -> None:
    for name in file_sizes(folder):
        own = _OWN_FILE.fullmatch(name) or is_temporary(name)
        if own and name not in kept:
            remove(folder / name)
