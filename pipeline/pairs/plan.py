"""The plan of a set of pairs: its samples in order, each with its photograph and crop number.

The plan is kept in columns, because a set can have a hundred million samples. A worker derives the
crop itself, from the seed, the set, the photograph's key and the number.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.config import SetSettings
from pipeline.pairs.crops import Crop, capacities, plan_crop
from pipeline.rng import random_order
from pipeline.shards.manifest import MAX_SHARDS, shard_name
from pipeline.sources.scanned import ScannedPhoto, ScannedPhotos, decoded
from tvqrap.runtime.errors import UserError

MIXED_PHOTOS = 64
"""Crops are shuffled among this many photographs at a time. That mixes a shard well, and a shard of
some hundred crops still decodes each photograph for several crops."""

GROUP_SHARDS = 4
"""Full shards in a group of photographs, about; up to twice as many, and one that is not full."""


@dataclass(frozen=True)
class PlannedSample:
    """A sample that is to be made."""

    entry: ScannedPhoto
    index: int
    """Number of the crop among those of the photograph."""
    mirror: bool = False
    """Whether it is the mirror image of another sample's crop."""

    @property
    def key(self) -> str:
        """Key of the sample, unique in its set."""
        return sample_key(self.entry.photo.key, self.index, self.mirror)

    def crop(self, name: str, seed: int, settings: SetSettings) -> Crop:
        """The crop of the sample in the set `name`."""
        crop = plan_crop(
            settings.crop_mode,
            self.entry.width,
            self.entry.height,
            settings.size,
            settings.flips == "random",
            settings.channel_shuffle_prob,
            self.index,
            (seed, name, "crop", self.entry.photo.key),
        )
        return replace(crop, flip=True) if self.mirror else crop

    def box(self, crop: Crop, settings: SetSettings) -> tuple[float, ...]:
        """Left, top, right, bottom of a crop in the photograph's pixels."""
        short = min(self.entry.width, self.entry.height)
        scale = short / settings.size if settings.crop_mode == "centre" else 1
        corners = (crop.left, crop.top, crop.left + crop.side, crop.top + crop.side)
        return tuple(round(corner * scale, 2) for corner in corners)


def sample_key(photo: str, index: int, mirror: bool) -> str:
    """The key of a crop of a photograph, or of the crop's mirror image."""
    return f"{photo}_{index:05d}" + ("m" if mirror else "")


@dataclass(frozen=True)
class PairShardTask:
    """A shard that is to be made."""

    name: str
    plan: str
    """SHA-256 (hex) over all that decides the shard's bytes, code and machine aside."""
    samples: tuple[PlannedSample, ...]


@dataclass(frozen=True, eq=False)
class PlannedSet(Mapping[str, PairShardTask]):
    """The shards of a set by name; a shard's samples become objects as it is asked for."""

    photos: ScannedPhotos
    photo: NDArray[np.integer]
    """Number of each sample's photograph."""
    index: NDArray[np.integer]
    """Number of each sample's crop among those of the photograph."""
    mirror: NDArray[np.bool_]
    starts: NDArray[np.integer]
    """First sample of each shard, and the number of all samples."""
    decisive: str
    """The values that decide the bytes of all shards, apart from their samples."""

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __iter__(self) -> Iterator[str]:
        return (shard_name(number) for number in range(len(self)))

    def __getitem__(self, name: str) -> PairShardTask:
        chosen = self._samples(name)
        samples = zip(
            self.photo[chosen].tolist(),
            self.index[chosen].tolist(),
            self.mirror[chosen].tolist(),
            strict=True,
        )
        return PairShardTask(
            name,
            self.plan(name),
            tuple(
                PlannedSample(self.photos[photo], index, mirror) for photo, index, mirror in samples
            ),
        )

    def size(self, name: str) -> int:
        """Number of samples of a shard."""
        chosen = self._samples(name)
        return chosen.stop - chosen.start

    def plan(self, name: str) -> str:
        """SHA-256 (hex) over all that decides a shard's bytes, code and machine aside."""
        chosen = self._samples(name)
        photo = self.photo[chosen]
        digest = hashlib.sha256(self.decisive.encode())
        digest.update(b"\n".join(self.photos.keys[photo].tolist()))
        digest.update("\n".join(self.photos.names[photo].tolist()).encode())
        digest.update(self.photos.sha256[photo].tobytes())
        digest.update(self.index[chosen].astype("<i4").tobytes())
        digest.update(self.mirror[chosen].tobytes())
        return digest.hexdigest()

    @property
    def photographs(self) -> NDArray[np.integer]:
        """Numbers of the photographs with a sample, sorted."""
        return np.unique(self.photo)

    def _samples(self, name: str) -> slice:
        number = int(name.partition(".")[0])
        return slice(int(self.starts[number]), int(self.starts[number + 1]))


def plan_set(
    name: str,
    seed: int,
    settings: SetSettings,
    photos: ScannedPhotos,
    chosen: NDArray[np.integer],
    shard_size: int,
    decisive: str,
) -> PlannedSet:
    """The samples of each shard of a set, of the `chosen` photographs, in the order of storage.

    Photographs are in a random order. Those of a large set are divided by it into groups of some
    shards each. So a new photograph changes the shards of its group, and those of the few
    photographs that lose a crop to it or change their split with it.
    Raises UserError where the photographs do not give enough crops, and for too many shards.
    """
    ranks = random_order(seed, name, "photo", names=decoded(photos.keys, chosen))
    order = np.lexsort(ranks)
    first_bits = ranks[-1][order]
    chosen = chosen[order].astype(np.int32)
    del ranks, order  # many bytes for each photograph
    counts = crop_counts(name, settings, photos, chosen)
    bits = _group_bits(len(chosen), int((counts > 0).sum()), settings, shard_size)
    groups = first_bits >> np.uint64(64 - bits) if bits else np.zeros_like(first_bits)
    block = _parts(groups, MIXED_PHOTOS)

    copies = 2 if settings.flips == "both" else 1
    place = np.repeat(np.arange(len(chosen), dtype=np.int32), counts * copies)
    first = np.repeat((np.cumsum(counts) - counts) * copies, counts * copies)
    index, mirror = np.divmod((np.arange(len(place)) - first).astype(np.int32), np.int32(copies))
    keys = map(
        sample_key,
        decoded(photos.keys, chosen[place]),
        map(int, index),
        map(bool, mirror),
    )
    stored = np.lexsort((*random_order(seed, name, "mix", names=keys), block[place]))
    place, index, mirror = place[stored], index[stored], mirror[stored].astype(np.bool_)
    starts = np.flatnonzero(np.diff(_parts(groups[place], shard_size), prepend=-1))
    if len(starts) > MAX_SHARDS:
        raise UserError(
            f"pairs.shard_size: found {shard_size}, which makes {len(starts)} shards of the set "
            f"{name}, expected more: a set has at most {MAX_SHARDS}"
        )
    return PlannedSet(photos, chosen[place], index, mirror, np.append(starts, len(place)), decisive)


def _parts(groups: NDArray[np.uint64], size: int) -> NDArray[np.int64]:
    """The number of the part that each place is in: up to `size` neighbours, all of one group."""
    first = np.diff(groups.astype(np.int64), prepend=-1) != 0
    place = np.arange(len(groups))
    within = place - np.maximum.accumulate(np.where(first, place, 0))
    return np.cumsum(within % size == 0) - 1


def _group_bits(photos: int, used: int, settings: SetSettings, shard_size: int) -> int:
    """How many leading bits of its rank decide a photograph's group.

    The number of groups is a power of two, so that it seldom changes. Of the photographs, those of
    the lowest ranks are used.
    """
    groups = min(used // MIXED_PHOTOS, settings.samples // (GROUP_SHARDS * shard_size))
    return max(1, groups * photos // max(1, used)).bit_length() - 1 if groups else 0


def crop_counts(
    name: str, settings: SetSettings, photos: ScannedPhotos, chosen: NDArray[np.integer]
) -> NDArray[np.int64]:
    """Number of crops of each chosen photograph, int64 (N).

    Raises UserError where they do not give enough.
    """
    limits = capacities(
        settings.crop_mode, photos.widths[chosen], photos.heights[chosen], settings.size
    )
    counts = _share_out(settings.count, limits)
    if (total := int(counts.sum())) < settings.count:
        raise UserError(
            f"pairs.sets.{name}.count: found {settings.count}, expected at most {total}, "
            f"which is all that {len(chosen)} photographs of the split {settings.split} give"
        )
    return counts


def _share_out(count: int, limits: NDArray[np.int64]) -> NDArray[np.int64]:
    """Shares `count` crops among photographs of limited capacity, evenly."""
    counts = np.zeros(len(limits), np.int64)
    open_ = np.arange(len(limits))
    while count and len(open_):
        share, odd = divmod(count, len(open_))
        wanted = share + (np.arange(len(open_)) < odd)
        given = np.minimum(wanted, limits[open_] - counts[open_])
        counts[open_] += given
        count -= int(given.sum())
        open_ = open_[counts[open_] != limits[open_]]
    return counts
