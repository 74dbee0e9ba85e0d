"""Usable photographs in columns: a million of them take some hundred megabytes."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.sources.photos import Photo

_AT_ONCE = 65536
"""Keys that are strings at a time."""


@dataclass(frozen=True)
class ScannedPhoto:
    """A usable photograph."""

    photo: Photo
    width: int
    height: int
    sha256: str
    """SHA-256 (hex) of the file."""
    hash: int
    """Perceptual hash of 64 bits."""


@dataclass(frozen=True, eq=False)
class ScannedPhotos:
    """Usable photographs by number, in the order of their keys."""

    keys: NDArray[np.bytes_]
    """ASCII."""
    names: NDArray[Any]
    """NumPy's strings of variable length."""
    widths: NDArray[np.int32]
    heights: NDArray[np.int32]
    sha256: NDArray[np.void]
    """32 bytes each."""
    hashes: NDArray[np.uint64]
    locators: NDArray[Any]
    """NumPy's strings of variable length, which take no memory where all are empty."""

    @classmethod
    def of(cls, entries: Iterable[ScannedPhoto]) -> "ScannedPhotos":
        """The columns of these photographs."""
        rows = sorted(entries, key=lambda entry: entry.photo.key)
        digests = b"".join(bytes.fromhex(entry.sha256) for entry in rows)
        return cls(
            np.array([entry.photo.key.encode() for entry in rows], np.bytes_),
            np.array([entry.photo.name for entry in rows], np.dtypes.StringDType()),
            np.array([entry.width for entry in rows], np.int32),
            np.array([entry.height for entry in rows], np.int32),
            np.frombuffer(digests, "V32"),
            np.array([entry.hash for entry in rows], np.uint64),
            locators_of([entry.photo.locator for entry in rows]),
        )

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, number: int) -> ScannedPhoto:
        return ScannedPhoto(
            Photo(self.keys[number].decode(), self.names[number], self.locators[number]),
            int(self.widths[number]),
            int(self.heights[number]),
            self.sha256[number].tobytes().hex(),
            int(self.hashes[number]),
        )

    def __iter__(self) -> Iterator[ScannedPhoto]:
        return (self[number] for number in range(len(self)))


def locators_of(locators: Sequence[str]) -> NDArray[Any]:
    """The column of these locators."""
    kind = np.dtypes.StringDType()
    if any(locators):
        return np.array(locators, kind)
    return np.broadcast_to(np.array("", kind), len(locators))


def decoded(keys: NDArray[np.bytes_], numbers: NDArray[np.integer]) -> Iterator[str]:
    """The keys of these numbers as strings, one after the other."""
    for start in range(0, len(numbers), _AT_ONCE):
        for key in keys[numbers[start : start + _AT_ONCE]].tolist():
            yield key.decode()
