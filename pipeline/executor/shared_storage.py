"""Proofs that a worker's node sees the storage that the driver sees, checked before it works."""

import socket
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.shards.manifest import Manifest
from pipeline.storage.location import Location, file_sha256, write_text
from tvqrap.runtime.errors import UserError

SPOT_CHECKS = 3
"""Files of a folder that are compared: the first, the last and some between."""

_EXPECTED = "expected storage that all nodes share, at the same path"


@dataclass(frozen=True)
class WrittenProof:
    """A file that the driver wrote a moment ago, where workers are to write."""

    file: Location
    mark: str
    """What it holds: never twice the same."""

    @classmethod
    def beside(cls, out: Location) -> "WrittenProof":
        """Writes the file `NAME.storage` beside the folder `out`."""
        proof = cls(out.parent / f"{out.name}.storage", uuid.uuid4().hex)
        write_text(proof.file, proof.mark)
        return proof

    def check(self) -> None:
        """Raises `UserError` where this node finds something else there."""
        try:
            found = self.file.read_bytes().decode(errors="replace")
        except OSError as error:
            found = str(error.strerror or error)
        if found != self.mark:
            raise UserError(
                f"{socket.gethostname()} does not see the driver's {self.file} ({found}), "
                f"{_EXPECTED}"
            )


@dataclass(frozen=True)
class FilesProof:
    """Some files of a folder that the driver has read, where workers are to read."""

    folder: Path
    hashes: tuple[tuple[str, str], ...]
    """Name in the folder and SHA-256 of each."""

    @classmethod
    def of(cls, folder: Path, names: Sequence[str]) -> "FilesProof":
        """Reads `SPOT_CHECKS` of the files, spread over all; those that cannot be read are none."""
        last = len(names) - 1
        places = {last * step // (SPOT_CHECKS - 1) for step in range(SPOT_CHECKS)} if names else ()
        found = [(names[place], _sha256(folder / names[place])) for place in sorted(places)]
        return cls(folder, tuple((name, sha256) for name, sha256 in found if sha256))

    def check(self) -> None:
        """Raises `UserError` where this node has other files or none."""
        for name, expected in self.hashes:
            found = _sha256(self.folder / name)
            if found != expected:
                raise UserError(
                    f"{socket.gethostname()} sees {found[:12] or 'nothing'} in "
                    f"{self.folder / name} where the driver sees {expected[:12]}, {_EXPECTED}"
                )


@dataclass(frozen=True)
class ManifestProof:
    """A set of shards that the driver has read the manifest of, where workers are to read."""

    folder: Location
    root: str

    def check(self) -> None:
        """Raises `UserError` where this node sees another set or none."""
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


def _sha256(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError:
        return ""
