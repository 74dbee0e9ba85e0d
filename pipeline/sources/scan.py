"""The scan of a folder of photographs: each is decoded once, before crops are planned."""

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import DataSettings, PairsSettings
from pipeline.executor.run import ExecutorKind, run_tasks
from pipeline.executor.shared_storage import FilesProof
from pipeline.shards.manifest import Skipped
from pipeline.sources.photos import Photo, UnusableError, decode, discover
from pipeline.sources.splits import near_duplicates, perceptual_hash, split_photos
from pipeline.storage.location import file_sha256
from tvqrap.runtime.errors import UserError


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


@dataclass(frozen=True)
class PhotoScan:
    """The photographs of a folder, usable and not."""

    usable: tuple[ScannedPhoto, ...]
    skipped: tuple[Skipped, ...]
    """Photographs that cannot be used."""
    passed_over: str = ""
    """Counts, by reason, of the folder's other files, in one line."""

    @property
    def skipped_fraction(self) -> float:
        """Fraction of the photographs that cannot be used."""
        return len(self.skipped) / max(1, len(self.skipped) + len(self.usable))

    def near_duplicates(self, pairs: PairsSettings) -> list[tuple[str, str, int]]:
        """Names of alike photographs in different splits, and the number of different hash bits."""
        keys = {entry.photo.key: entry for entry in self.usable}
        splits = split_photos(sorted(keys), pairs.splits, pairs.split_seed)
        hashes = {key: entry.hash for key, entry in keys.items()}
        return [
            (keys[first].photo.name, keys[second].photo.name, distance)
            for first, second, distance in near_duplicates(splits, hashes)
        ]


def scan_photos(
    data: DataSettings,
    *,
    executor: ExecutorKind,
    workers: int,
    advance: Callable[[int], None] = lambda count: None,
) -> PhotoScan:
    """Decodes every photograph once and finds the usable ones. UserError where there is none."""
    folder = Path(data.photos).resolve()
    found = discover(folder)
    photos, skipped = found.photos, found.skipped
    usable: list[ScannedPhoto] = []

    def keep(index: int, result: ScannedPhoto | Skipped) -> None:
        if isinstance(result, Skipped):
            skipped.append(result)
        else:
            usable.append(result)
        advance(1)

    proof = FilesProof.of(folder, [photo.name for photo in photos])
    worker = functools.partial(_scanner, proof, data)
    failures = run_tasks(worker, photos, executor=executor, workers=workers, on_result=keep)
    # A photograph that kills its worker is skipped like any other.
    skipped += [Skipped(photos[failure.index].name, failure.error) for failure in failures]
    if not usable:
        reasons = counted_reasons(skipped) if skipped else "the folder holds no image"
        if found.passed_over:
            reasons += f"; {found.passed_over}"
        raise UserError(f"{data.photos}: found no usable photograph: {reasons}")
    return PhotoScan(
        tuple(sorted(usable, key=lambda entry: entry.photo.key)),
        tuple(sorted(skipped, key=lambda entry: entry.name)),
        found.passed_over,
    )


def counted_reasons(skipped: Sequence[Skipped]) -> str:
    """The reasons in one line, each with its count and the first file, the most frequent first.

    Reasons that differ in numbers alone, such as sizes, count as one.
    """
    alike: dict[str, list[Skipped]] = {}
    for entry in skipped:
        alike.setdefault(re.sub(r"\d+", "0", entry.reason), []).append(entry)
    groups = sorted(alike.values(), key=len, reverse=True)
    return "; ".join(f"{len(group)} such as {group[0].name}: {group[0].reason}" for group in groups)


def _scanner(proof: FilesProof, data: DataSettings) -> Callable[[Photo], ScannedPhoto | Skipped]:
    proof.check()
    folder = proof.folder

    def scan(photo: Photo) -> ScannedPhoto | Skipped:
        try:
            image = decode(folder, photo, data)
        except UnusableError as error:
            return Skipped(photo.name, str(error))
        sha256 = file_sha256(folder / photo.name)
        height, width = image.shape[:2]
        return ScannedPhoto(photo, width, height, sha256, perceptual_hash(image))

    return scan
