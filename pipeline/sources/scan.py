"""The scan of a folder of photographs: each is decoded once, before crops are planned."""

import functools
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config import DataSettings, PairsSettings, SplitName
from pipeline.executor.run import ExecutorKind, run_tasks
from pipeline.executor.shared_storage import FilesProof
from pipeline.shards.manifest import Skipped
from pipeline.sources.licences import read_licences
from pipeline.sources.listing import find_photos
from pipeline.sources.photos import (
    FoundPhotos,
    Photo,
    UnusableError,
    content_of,
    content_sha256,
    decode,
)
from pipeline.sources.scan_table import FileState, Scanned, ScanTable
from pipeline.sources.scanned import ScannedPhoto, ScannedPhotos, decoded
from pipeline.sources.splits import near_duplicates, perceptual_hash, split_photos
from tvqrap.runtime.errors import UserError

CHUNK = 64
"""Photographs in a task of the scan, at most."""
_LEAST_CHUNK = 4

KEEP_SECONDS = 30.0
"""How often a scan keeps its results for a run that resumes it."""


@dataclass(frozen=True, eq=False)
class PhotoScan:
    """The photographs of the sources, usable and not."""

    usable: ScannedPhotos
    skipped: tuple[Skipped, ...]
    """Photographs that cannot be used."""
    passed_over: str = ""
    """Counts, by reason, of the sources' other files, in one line."""
    licences: Any = None
    """Arrow table of photo, licence, source and author, a row for each usable photograph; None
    where no licences were given."""
    _splits: dict[tuple[str, int], dict[SplitName, NDArray[np.int64]]] = field(
        default_factory=dict, repr=False
    )

    @property
    def skipped_fraction(self) -> float:
        """Fraction of the photographs that cannot be used."""
        return len(self.skipped) / max(1, len(self.skipped) + len(self.usable))

    def splits(self, pairs: PairsSettings) -> dict[SplitName, NDArray[np.int64]]:
        """Numbers of the usable photographs of each split, in their order; computed once.

        Photographs of equal files are in one split: that of the first of them by key.
        """
        asked = (pairs.splits.model_dump_json(), pairs.split_seed)
        if asked not in self._splits:
            _, first, content = np.unique(
                self.usable.sha256.view("S32"), return_index=True, return_inverse=True
            )
            firsts = first[content]  # for each photograph the first of equal content
            alone = np.unique(firsts)
            keys = self.usable.keys
            keys = keys if len(alone) == len(keys) else keys[alone]  # seldom a copy
            chosen = split_photos(keys, pairs.splits, pairs.split_seed)
            self._splits[asked] = {
                name: np.flatnonzero(np.isin(firsts, alone[numbers]))
                for name, numbers in chosen.items()
            }
        return self._splits[asked]

    def near_duplicates(self, pairs: PairsSettings) -> list[tuple[str, str, int]]:
        """Names of alike photographs in different splits, and the number of different hash bits."""
        names = self.usable.names
        return [
            (names[first], names[second], distance)
            for first, second, distance in near_duplicates(self.splits(pairs), self.usable.hashes)
        ]


def scan_photos(
    data: DataSettings,
    *,
    executor: ExecutorKind,
    workers: int,
    kept: Path | None = None,
    code: str = "",
    advance: Callable[[int], None] = lambda count: None,
) -> PhotoScan:
    """Decodes every photograph once and finds the usable ones. UserError where there is none.

    With a folder `kept`, results are kept there from run to run: a photograph whose path, size and
    modification time are unchanged is not read again. `code` is the digest of the code that
    decodes; results of other code do not count.
    """
    folder = Path(data.photos).resolve()
    found = find_photos(data.photos)
    skipped = list(found.skipped)
    usable: list[ScannedPhoto] = []

    def sort(photo: Photo, result: Scanned) -> None:
        if result.reason is not None:
            skipped.append(Skipped(photo.name, result.reason))
        else:
            entry = (result.width, result.height, result.sha256, result.hash)
            usable.append(ScannedPhoto(photo, *entry))
        advance(1)

    if kept is None:
        failed = _decode_all(found.photos, data, executor, workers, sort)
    else:
        failed = _decode_new(
            found, data, executor, workers, ScanTable(kept, folder, data, code), sort
        )
    skipped += failed
    if not usable:
        reasons = counted_reasons(skipped) if skipped else "the folder holds no image"
        if found.passed_over:
            reasons += f"; {found.passed_over}"
        raise UserError(f"{data.photos}: found no usable photograph: {reasons}")
    photos = ScannedPhotos.of(usable)
    licences = None
    if data.licences is not None:
        keys = list(decoded(photos.keys, np.arange(len(photos))))
        licences = read_licences(Path(data.licences), photos.names.tolist(), keys)
    return PhotoScan(
        photos,
        tuple(sorted(skipped, key=lambda entry: entry.name)),
        found.passed_over,
        licences,
    )


def _decode_new(
    found: FoundPhotos,
    data: DataSettings,
    executor: ExecutorKind,
    workers: int,
    table: ScanTable,
    on_result: Callable[[Photo, Scanned], None],
) -> list[Skipped]:
    """Decodes the photographs that a table does not know, and adds them to it."""
    folder = Path(data.photos).resolve()
    unknown: dict[Photo, FileState] = {}
    for photo in found.photos:
        try:
            state = found.states.get(photo.locator) or FileState.of(_path(folder, photo))
        except OSError:
            state = FileState(-1, "")  # removed since: its reading says so
        known = table.find(_place(photo), state)
        if known is None:
            unknown[photo] = state
        else:
            on_result(photo, known)
    fresh: dict[str, tuple[FileState, Scanned]] = {}
    kept_at = time.monotonic()

    def keep(photo: Photo, result: Scanned) -> None:
        nonlocal kept_at
        if result.sha256:  # else the file cannot be read now, which its state does not tell
            fresh[_place(photo)] = unknown[photo], result
        if time.monotonic() - kept_at > KEEP_SECONDS:
            keep_fresh()
            kept_at = time.monotonic()
        on_result(photo, result)

    def keep_fresh() -> None:
        if fresh:
            table.add_part(fresh)
            fresh.clear()

    try:
        failed = _decode_all(list(unknown), data, executor, workers, keep)
    finally:
        keep_fresh()
    table.finish(map(_place, found.photos))
    return failed


def _path(folder: Path, photo: Photo) -> Path:
    """The path of a photograph that lies on disk as a file."""
    return Path(photo.locator) if photo.locator else folder / photo.name


def _place(photo: Photo) -> str:
    """Identifies a photograph in its source: its locator, or its name in the folder."""
    return photo.locator or photo.name


def _decode_all(
    photos: Sequence[Photo],
    data: DataSettings,
    executor: ExecutorKind,
    workers: int,
    on_result: Callable[[Photo, Scanned], None],
) -> list[Skipped]:
    """Decodes photographs in chunks; those that kill their worker are skipped, with the error."""
    proof = FilesProof.of(Path(data.photos).resolve(), list(map(_place, photos)))
    worker = functools.partial(_scanner, proof, data)

    def run(chunks: Sequence[Sequence[Photo]]) -> Mapping[int, str]:
        def settle(index: int, results: Sequence[Scanned]) -> None:
            for photo, result in zip(chunks[index], results, strict=True):
                on_result(photo, result)

        failures = run_tasks(worker, chunks, executor=executor, workers=workers, on_result=settle)
        return {failure.index: failure.error for failure in failures}

    size = min(CHUNK, max(_LEAST_CHUNK, len(photos) // (4 * workers)))
    chunks = [photos[start : start + size] for start in range(0, len(photos), size)]
    # One of a chunk that failed is at fault, so each is tried alone.
    alone = [[photo] for index in run(chunks) for photo in chunks[index]]
    return [Skipped(alone[index][0].name, error) for index, error in run(alone).items()]


def counted_reasons(skipped: Sequence[Skipped]) -> str:
    """The reasons in one line, each with its count and the first file, the most frequent first.

    Reasons that differ in numbers alone, such as sizes, count as one.
    """
    alike: dict[str, list[Skipped]] = {}
    for entry in skipped:
        alike.setdefault(re.sub(r"\d+", "0", entry.reason), []).append(entry)
    groups = sorted(alike.values(), key=len, reverse=True)
    return "; ".join(f"{len(group)} such as {group[0].name}: {group[0].reason}" for group in groups)


def _scanner(proof: FilesProof, data: DataSettings) -> Callable[[Sequence[Photo]], list[Scanned]]:
    proof.check()
    folder = proof.folder

    def scan(photo: Photo) -> Scanned:
        content: Path | bytes | None = None
        try:
            content = content_of(folder, photo)
            image = decode(content, data)
        except UnusableError as error:
            return Scanned(_readable(content), 0, 0, 0, str(error))
        height, width = image.shape[:2]
        return Scanned(content_sha256(content), width, height, perceptual_hash(image), None)

    return lambda photos: [scan(photo) for photo in photos]


def _readable(content: Path | bytes | None) -> str:
    """SHA-256 (hex) of a photograph, empty where it cannot be read."""
    try:
        return "" if content is None else content_sha256(content)
    except OSError:
        return ""
