"""Means over photographs, and how far they would move with other photographs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

FEWEST_PHOTOS = 5
"""Of fewer photographs there is no interval: their resampled means are too few to say how far the
mean moves, and those of one photograph are all the same."""


@dataclass(frozen=True)
class Interval:
    """A mean over photographs with its bootstrap interval."""

    mean: float
    low: float | None
    high: float | None
    """Ends of the interval; None for fewer than `FEWEST_PHOTOS`."""
    photos: int
    images: int

    def shown(self, digits: int, between: str, sign: str = "") -> str | None:
        """The ends of the interval as text; None where there is none."""
        if self.low is None or self.high is None:
            return None
        return f"{self.low:{sign}.{digits}f}{between}{self.high:{sign}.{digits}f}"


def caution(photos: int) -> str:
    """What is to be said where photographs are too few to tell; empty where there are enough."""
    if photos >= FEWEST_PHOTOS:
        return ""
    count = "1 photograph" if photos == 1 else f"{photos} photographs"
    return f"{count}, fewer than {FEWEST_PHOTOS}: no intervals, and no model is told apart"


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

    Crops of one photograph are alike, so photographs are resampled (percentile bootstrap), where
    there are `FEWEST_PHOTOS` or more; of fewer the mean alone is known. They are
    taken in the order of their names, so that equal seeds resample different scores of the same
    photographs in the same way. Raises ValueError where there is no value or one is not finite.
    """
    of_photos = [np.mean(np.asarray(values[photo])) for photo in sorted(values) if values[photo]]
    if not of_photos:
        raise ValueError("no values to average")
    means = np.array(of_photos, dtype=np.float64)
    if not np.isfinite(means).all():
        raise ValueError("a value is not finite")
    images = sum(len(crops) for crops in values.values())
    if len(means) < FEWEST_PHOTOS:
        return Interval(float(means.mean()), None, None, len(means), images)
    draws = np.random.default_rng(resampling.seed).integers(
        len(means), size=(resampling.samples, len(means))
    )
    tail = (1 - resampling.confidence) / 2
    low, high = np.quantile(means[draws].mean(axis=1), [tail, 1 - tail])
    return Interval(float(means.mean()), float(low), float(high), len(means), images)
