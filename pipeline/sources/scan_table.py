"""The table of a scan: what is known of each photograph of a folder, kept between runs as Parquet.

A photograph counts as known while its path or locator, size, and modification time or entity tag
are those of its row. A run that is stopped leaves parts, so that the next one goes on from there.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import DataSettings
from tvqrap.runtime.atomic import atomic_path

_WHOLE = "photographs.parquet"
_PARTS = "part-*.parquet"

_DECODERS = ("pillow", "opencv-python-headless", "pillow-heif", "pillow-jxl-plugin")
"""Packages that decide what is read, and how."""

_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("size", pa.int64()),
        ("mark", pa.string()),
        ("sha256", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("hash", pa.uint64()),
        ("reason", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class FileState:
    """By what a file is known again without reading it."""

    size: int
    """In bytes; -1 where it is not known."""
    mark: str
    """Changes with the content: modification time in nanoseconds, or the entity tag of a store."""

    @classmethod
    def of(cls, path: Path) -> "FileState":
        """The state of a file, behind a link too. Raises OSError where there is none."""
        found = path.stat()
        return cls(found.st_size, str(found.st_mtime_ns))


@dataclass(frozen=True, slots=True)
class Scanned:
    """The result of the scan of one file."""

    sha256: str
    """SHA-256 (hex) of the file; empty where it cannot be read."""
    width: int
    height: int
    hash: int
    """Perceptual hash of 64 bits."""
    reason: str | None
    """Why the file cannot be used; None for a usable one, the other values are 0 otherwise."""


class ScanTable:
    """The kept results of scans of one folder of photographs."""

    def __init__(self, kept: Path, photos: Path, data: DataSettings, code: str) -> None:
        """Reads the table of the folder `photos`, which lies in a folder of its own in `kept`.

        A table of other limits, code or libraries does not count; `code` is the digest of the code
        that decodes.
        """
        name = hashlib.sha256(str(photos).encode("utf-8", "surrogateescape")).hexdigest()[:16]
        self._folder = kept / name
        libraries = {name: _version(name) for name in _DECODERS}
        decisive = (data.min_side, data.max_pixels, code, libraries)
        key = hashlib.sha256(repr(decisive).encode()).hexdigest()
        self._schema = _SCHEMA.with_metadata({"scan": key})
        self._parts = 0
        self._known: dict[str, tuple[FileState, Scanned]] = {}
        for path in (self._folder / _WHOLE, *sorted(self._folder.glob(_PARTS))):
            self._known |= self._read(path)
            self._parts += path.name != _WHOLE

    def find(self, name: str, state: FileState) -> Scanned | None:
        """The kept result of a file in this state; None for an unknown one."""
        known = self._known.get(name)
        return known[1] if known is not None and known[0] == state else None

    def add_part(self, rows: Mapping[str, tuple[FileState, Scanned]]) -> None:
        """Keeps results of a scan that goes on."""
        self._write(f"part-{self._parts:06d}.parquet", rows)
        self._parts += 1
        self._known.update(rows)

    def finish(self, present: Iterable[str]) -> None:
        """Writes the table anew with the rows of the files that are present, in place of parts."""
        rows = {name: self._known[name] for name in sorted(present) if name in self._known}
        if self._parts or len(rows) != len(self._known):
            self._write(_WHOLE, rows)
            for path in self._folder.glob(_PARTS):
                path.unlink()
            self._parts = 0

    def _write(self, name: str, rows: Mapping[str, tuple[FileState, Scanned]]) -> None:
        columns = {
            "path": list(rows),
            "size": [state.size for state, _ in rows.values()],
            "mark": [state.mark for state, _ in rows.values()],
            **{
                key: [getattr(scanned, key) for _, scanned in rows.values()]
                for key in ("sha256", "width", "height", "hash", "reason")
            },
        }
        self._folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(self._folder / name) as temporary:
            pq.write_table(pa.table(columns, schema=self._schema), temporary)

    def _read(self, path: Path) -> dict[str, tuple[FileState, Scanned]]:
        """The rows of a file; none where it is missing, damaged or of another scan."""
        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowException):
            return {}
        if not table.schema.equals(self._schema, check_metadata=True):
            return {}
        paths, sizes, marks, *results = (column.to_pylist() for column in table.columns)
        return {
            name: (FileState(size, mark), Scanned(*found))
            for name, size, mark, *found in zip(paths, sizes, marks, *results, strict=True)
        }


def _version(package: str) -> str | None:
    """The version of a package, None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
