"""Means over training seeds, with t-intervals."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Two-sided 95 % quantiles of Student's t for 1, 2, ... 9 degrees of freedom."""


@dataclass(frozen=True)
class Mean:
    """A mean over seeds."""

    value: float
    half: float | None
    """Half the width of the 95 % t-interval; None for a single seed."""


def mean_over_seeds(values: Sequence[float]) -> Mean:
    """Mean of one value per seed (1 to 10 of them) with its t-interval.

    The interval covers the variation between seeds, for normally distributed values. It does not
    cover that between test photographs, which are the same for all seeds.
    """
    if len(values) == 1:
        return Mean(values[0], None)
    spread = statistics.stdev(values) / math.sqrt(len(values))
    return Mean(statistics.fmean(values), T_95[len(values) - 2] * spread)
