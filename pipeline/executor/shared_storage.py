"""Proofs that a worker's node sees the driver's storage; each worker checks them at its start."""

import hashlib
import socket
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.executor.outcome import UnfitWorkerError
from pipeline.shards.manifest import Manifest
from pipeline.storage.content import is_locator, read_content
from pipeline.storage.location import Location, write_text
from tvqrap.runtime.errors import UserError

SPOT_CHECKS = 3
"""How many files of a folder are compared: the first, the last and some between."""

_EXPECTED = "expected storage that all nodes share, at the same path"


@dataclass(frozen=True)
class WrittenProof:
    """A file that the driver has just written beside the folder where workers write."""

    file: Location
    mark: str
    """Its content, another for each run."""

    @classmethod
    def beside(cls, out: Location) -> "WrittenProof":
        """Writes the file `NAME.storage` beside the folder `out`."""
        proof = cls(out.parent / f"{out.name}.storage", uuid.uuid4().hex)
        write_text(proof.file, proof.mark)
        return proof

    def check(self) -> None:
        """Raises `UnfitWorkerError` where the file on this node has other content or is missing."""
        try:
            found = self.file.read_bytes().decode(errors="replace")
        except OSError as error:
            found = str(error.strerror or error)
        if found != self.mark:
            raise UnfitWorkerError(
                f"{socket.gethostname()} does not see the driver's {self.file} ({found}), "
                f"{_EXPECTED}"
            )


@dataclass(frozen=True)
class FilesProof:
    """The hashes of some files that workers read, as the driver found them."""

    folder: Path
    hashes: tuple[tuple[str, str], ...]
    """Name in the folder or locator, and SHA-256 of each."""

    @classmethod
    def of(cls, folder: Path, names: Sequence[str]) -> "FilesProof":
        """Hashes `SPOT_CHECKS` of the files, spread over all; leaves unreadable ones out."""
        last = len(names) - 1
        chosen = {last * step // (SPOT_CHECKS - 1) for step in range(SPOT_CHECKS)} if names else ()
        found = [(names[index], _sha256(folder, names[index])) for index in sorted(chosen)]
        return cls(folder, tuple((name, sha256) for name, sha256 in found if sha256))

    def check(self) -> None:
        """Raises `UserError` where a file on this node differs or is missing."""
        for name, expected in self.hashes:
            found = _sha256(self.folder, name)
            if found != expected:
                place = name if is_locator(name) else self.folder / name
                raise UserError(
                    f"{socket.gethostname()} sees {found[:12] or 'nothing'} in {place} where the "
                    f"driver sees {expected[:12]}, {_EXPECTED}"
                )


@dataclass(frozen=True)
class ManifestProof:
    """The root of a set of shards that workers read, as the driver found it."""

    folder: Location
    root: str

    def check(self) -> None:
        """Raises `UserError` where the set on this node has another root or is missing."""
        host = socket.gethostname()
        try:
            root = Manifest.load(self.folder).root
        except UserError as error:
            raise UserError(
                f"{host} does not see the driver's pairs ({error}), {_EXPECTED}"
            ) from None
        if root != self.root:
            raise UserError(
                f"{host} sees pairs {root[:12]} in {self.folder} where the driver sees "
                f"{self.root[:12]}, {_EXPECTED}"
            )


def _sha256(folder: Path, name: str) -> str:
    try:
        content = read_content(name if is_locator(name) else str(folder / name))
        return hashlib.sha256(content).hexdigest()
    except (OSError, ValueError):
        return ""
