"""The plan of a set of pairs: its samples in order, each with its photograph and crop."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.config import SetSettings
from pipeline.pairs.crops import Crop, capacity, plan_crop
from pipeline.rng import random_rank
from pipeline.sources.photos import Photo
from pipeline.sources.scan import ScannedPhoto
from tvqrap.runtime.errors import UserError

MIXED_PHOTOS = 64
"""Crops are shuffled among this many photographs at a time. That mixes a shard well, and a shard of
some hundred crops still decodes each photograph for several crops."""


@dataclass(frozen=True)
class PlannedSample:
    """A sample that is to be made."""

    photo: Photo
    sha256: str
    """SHA-256 (hex) of the photograph's file."""
    index: int
    """Number of the crop among those of the photograph."""
    crop: Crop
    box: tuple[float, ...]
    """Left, top, right, bottom in the photograph's pixels."""
    mirror: bool = False
    """Whether it is the mirror image of another sample's crop."""

    @property
    def key(self) -> str:
        """Key of the sample, unique in its set."""
        return f"{self.photo.key}_{self.index:05d}" + ("m" if self.mirror else "")

    @property
    def mirrored(self) -> "PlannedSample":
        """The mirror image of the crop as a sample of its own."""
        return replace(self, crop=replace(self.crop, flip=True), mirror=True)


def plan_samples(
    name: str, seed: int, settings: SetSettings, entries: Sequence[ScannedPhoto]
) -> list[PlannedSample]:
    """All samples of a set in the order in which they are stored."""
    order = sorted(entries, key=lambda entry: random_rank(seed, name, "photo", entry.photo.key))
    counts = crop_counts(name, settings, order)
    planned: list[PlannedSample] = []
    for start in range(0, len(order), MIXED_PHOTOS):
        block = []
        for entry, count in zip(
            order[start : start + MIXED_PHOTOS], counts[start : start + MIXED_PHOTOS], strict=True
        ):
            for index in range(count):
                crop = plan_crop(
                    settings.crop_mode,
                    entry.width,
                    entry.height,
                    settings.size,
                    settings.flips == "random",
                    settings.channel_shuffle_prob,
                    index,
                    (seed, name, "crop", entry.photo.key),
                )
                scale = (
                    min(entry.width, entry.height) / settings.size
                    if settings.crop_mode == "centre"
                    else 1
                )
                corners = (crop.left, crop.top, crop.left + crop.side, crop.top + crop.side)
                box = tuple(round(corner * scale, 2) for corner in corners)
                sample = PlannedSample(entry.photo, entry.sha256, index, crop, box)
                block += [sample, sample.mirrored] if settings.flips == "both" else [sample]
        block.sort(key=lambda sample: random_rank(seed, name, "mix", sample.key))
        planned += block
    return planned


def crop_counts(name: str, settings: SetSettings, entries: Sequence[ScannedPhoto]) -> list[int]:
    """Number of crops of each photograph. Raises UserError where they do not give enough."""
    capacities = [
        capacity(settings.crop_mode, entry.width, entry.height, settings.size) for entry in entries
    ]
    counts = _share_out(settings.count, capacities)
    if sum(counts) < settings.count:
        raise UserError(
            f"pairs.sets.{name}.count: found {settings.count}, expected at most {sum(counts)}, "
            f"which is all that {len(entries)} photographs of the split {settings.split} give"
        )
    return counts


def _share_out(count: int, capacities: Sequence[int | None]) -> list[int]:
    """Shares `count` crops among photographs of limited capacity (None: no limit), evenly."""
    counts = [0] * len(capacities)
    places = list(range(len(capacities)))
    while count and places:
        share, odd = divmod(count, len(places))
        for order, place in enumerate(places):
            limit = capacities[place]
            wanted = share + (order < odd)
            given = wanted if limit is None else min(wanted, limit - counts[place])
            counts[place] += given
            count -= given
        places = [place for place in places if counts[place] != capacities[place]]
    return counts
