"""The ledger of a set in the making, so that a run that was stopped resumes with whole shards.

`rows/SET/NAME.json` holds the record of each finished shard, a line of JSON and the line's SHA-256.
A record counts only if it and its shard are intact and its plan is the one of this run. The driver
alone writes the ledger.
"""

import hashlib
import logging
import re
from collections.abc import Mapping
from typing import Generic, Protocol, TypeVar

from pydantic import TypeAdapter

from pipeline.shards.manifest import MANIFEST, ShardRow, is_intact
from pipeline.storage.location import (
    Location,
    StorageError,
    file_sizes,
    make_folder,
    remove,
    write_text,
)
from tvqrap.runtime.atomic import is_temporary
from tvqrap.runtime.errors import UserError

log = logging.getLogger(__name__)

_OWN_FILE = re.compile(rf"\d{{6}}\.tar(\.json)?|{re.escape(MANIFEST)}")
"""Shards, their records and the manifest; beside temporary files, no other file is removed."""


class Finished(Protocol):
    """The record of a finished shard."""

    @property
    def row(self) -> ShardRow:
        """The manifest's entry, with its plan."""

    @property
    def machine(self) -> object:
        """The kind of machine and the libraries that made it, comparable and printable."""


Shard = TypeVar("Shard", bound=Finished)


class Ledger(Generic[Shard]):
    """Records of the finished shards of one set, by shard name."""

    def __init__(
        self, out: Location, rows: Location, plans: Mapping[str, str], form: type[Shard]
    ) -> None:
        """Reads the records in the folder `rows` and sweeps all that does not count.

        `plans` has the plan of each shard of the set `out`, in order. `form` is the dataclass of a
        record.
        """
        self.out = out
        self.done: dict[str, Shard] = {}
        self._rows = rows
        self._plans = plans
        self._form = TypeAdapter(form)
        self._machine: object | None = None
        for folder in (out, rows):
            make_folder(folder)
        sizes = file_sizes(out)
        machines: list[object] = []
        for name, plan in plans.items():
            shard = self._recorded(name)
            if shard is None or (shard.row.name, shard.row.plan) != (name, plan):
                continue
            # A run that was killed can leave shards of two kinds of machines. The first one's stay.
            if is_intact(out / name, shard.row, sizes) and shard.machine in (
                machines or [shard.machine]
            ):
                machines = [shard.machine]
                self.done[name] = shard
        self.sweep()

    @property
    def missing(self) -> list[str]:
        """Names of the shards that are still to be made."""
        return [name for name in self._plans if name not in self.done]

    @property
    def shards(self) -> list[Shard]:
        """The records of all shards in order; none may be missing."""
        return [self.done[name] for name in self._plans]

    def add(self, shard: Shard) -> None:
        """Records a shard that this run made.

        Raises UserError where another kind of machine made it than the others of this run.
        """
        self._check_machine(shard)
        text = self._form.dump_json(shard).decode()
        write_text(self._rows / f"{shard.row.name}.json", f"{text}\n{_digest(text)}\n")
        self.done[shard.row.name] = shard

    def sweep(self) -> None:
        """Removes the files of writers that died and of other plans.

        Only files that are named as this module and the shards' writers name them.
        """
        _remove_others(self.out, self.done)
        _remove_others(self._rows, {f"{name}.json": None for name in self.done})

    def _recorded(self, name: str) -> Shard | None:
        try:
            text, digest, *_ = (self._rows / f"{name}.json").read_bytes().decode().split("\n")
            return self._form.validate_json(text) if _digest(text) == digest else None
        except StorageError:
            raise
        except (OSError, ValueError):
            return None

    def _check_machine(self, shard: Shard) -> None:
        """Drops an earlier run's shards where the first of this run shows another machine."""
        if self._machine is None:
            self._machine = shard.machine
            others = [name for name, old in self.done.items() if old.machine != shard.machine]
            if others:
                log.warning(
                    "%s: %d shards of an earlier run were made on %s, this one's are on %s: they "
                    "are made again",
                    self.out,
                    len(others),
                    self.done[others[0]].machine,
                    shard.machine,
                )
            for name in others:
                del self.done[name]
        if self._machine != shard.machine:
            raise UserError(
                f"{self.out / shard.row.name}: made on {shard.machine}, the others of this run on "
                f"{self._machine}; expected workers of one kind, because another kind may give "
                "other bytes"
            )


def _digest(text: str) -> str:
    """What tells a record that was damaged: counts in it stand nowhere else."""
    return hashlib.sha256(text.encode()).hexdigest()


def _remove_others(folder: Location, kept: Mapping[str, object]) -> None:
    for name in file_sizes(folder):
        own = _OWN_FILE.fullmatch(name) or is_temporary(name)
        if own and name not in kept:
            remove(folder / name)
