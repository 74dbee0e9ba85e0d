"""Means over photographs with Student's t intervals."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit  # type: ignore[import-untyped]

FEWEST_PHOTOS = 5
"""Photographs that an interval needs: fewer hardly show the spread."""

FEWEST_FOR_VERDICT = 10
"""Photographs that a verdict needs: of fewer, skewed scores make intervals too narrow."""


@dataclass(frozen=True)
class Interval:
    """A mean over photographs with its t interval."""

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
    """One line where photographs are too few for verdicts; empty where there are enough."""
    if photos >= FEWEST_FOR_VERDICT:
        return ""
    count = "1 photograph" if photos == 1 else f"{photos} photographs"
    lacking = "no intervals and no verdicts" if photos < FEWEST_PHOTOS else "no verdicts"
    fewest = FEWEST_PHOTOS if photos < FEWEST_PHOTOS else FEWEST_FOR_VERDICT
    return f"{count}, fewer than {fewest}: {lacking}"


def mean_interval(values: Mapping[str, Sequence[float]], confidence: float) -> Interval:
    """Mean over photographs of the mean over each photograph's crops, with its interval.

    Crops of one photograph are alike, so each photograph counts once. The interval is that of
    Student's t: exact where the photographs' means are normally distributed. Raises ValueError
    where there is no value or one is not finite.
    """
    means = photo_means(values)
    mean = float(means.mean())
    images = sum(len(crops) for crops in values.values())
    if len(means) < FEWEST_PHOTOS:
        return Interval(mean, None, None, len(means), images)
    half = float(stdtrit(len(means) - 1, (1 + confidence) / 2)) * standard_error(means)
    return Interval(mean, mean - half, mean + half, len(means), images)


def p_of_zero_mean(values: Mapping[str, Sequence[float]]) -> float | None:
    """Two-sided p-value of the t test that the mean over photographs is 0.

    None for fewer photographs than `FEWEST_FOR_VERDICT`.
    """
    means = photo_means(values)
    if len(means) < FEWEST_FOR_VERDICT:
        return None
    mean, error = float(means.mean()), standard_error(means)
    if error == 0:
        return float(mean == 0)
    return 2 * float(stdtr(len(means) - 1, -abs(mean) / error))


def photo_means(values: Mapping[str, Sequence[float]]) -> NDArray[np.float64]:
    """The mean over each photograph's crops, photographs sorted by name.

    Raises ValueError where there is no value or one is not finite.
    """
    means = np.array(
        [
            np.mean(np.asarray(values[photo], np.float64))
            for photo in sorted(values)
            if values[photo]
        ]
    )
    if not len(means):
        raise ValueError("no values to average")
    if not np.isfinite(means).all():
        raise ValueError("a value is not finite")
    return means


def standard_error(means: NDArray[np.float64]) -> float:
    """Standard error of the mean of two or more values."""
    return float(means.std(ddof=1)) / math.sqrt(len(means))
