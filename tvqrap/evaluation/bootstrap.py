"""Means over photographs, and how far they would move with other photographs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A mean over photographs with its bootstrap interval."""

    mean: float
    low: float
    high: float
    photos: int
    images: int


@dataclass(frozen=True)
class Resampling:
    """How intervals are found."""

    samples: int
    """Resamplings of the photographs."""
    confidence: float
    """Share of the resampled means that an interval holds."""
    seed: int


def mean_interval(values: Mapping[str, Sequence[float]], resampling: Resampling) -> Interval:
    """Mean over photographs of the mean over each photograph's crops.

    Crops of one photograph are alike, so photographs are resampled (percentile bootstrap). They are
    taken in the order of their names, so that equal seeds resample different scores of the same
    photographs in the same way. Raises ValueError where there is no value or one is not finite.
    """
    of_photos = [np.mean(np.asarray(values[photo])) for photo in sorted(values) if values[photo]]
    if not of_photos:
        raise ValueError("no values to average")
    means = np.array(of_photos, dtype=np.float64)
    if not np.isfinite(means).all():
        raise ValueError("a value is not finite")
    draws = np.random.default_rng(resampling.seed).integers(
        len(means), size=(resampling.samples, len(means))
    )
    tail = (1 - resampling.confidence) / 2
    low, high = np.quantile(means[draws].mean(axis=1), [tail, 1 - tail])
    images = sum(len(crops) for crops in values.values())
    return Interval(float(means.mean()), float(low), float(high), len(means), images)
