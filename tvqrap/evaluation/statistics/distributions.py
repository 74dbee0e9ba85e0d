"""Distributions of the scores of a set's images, as outlines for the report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

GRID = 64
"""Number of places along the axis at which a density is computed."""
MOST_DOTS = 150
"""With more images than this, single images are not drawn."""


@dataclass(frozen=True)
class Outline:
    """The scores of one model by one metric; places on the axis are in [0, 1]."""

    density: tuple[float, ...]
    """Density at `GRID` even places along the axis, relative to the highest of all models."""
    quartiles: tuple[float, float, float]
    dots: tuple[float, ...]
    """Places of the images; empty where there are too many."""


@dataclass(frozen=True)
class Distribution:
    """The scores of all models by one metric, on one axis."""

    low: float
    high: float
    """Ends of the axis."""
    outlines: Mapping[str, Outline]


def distribution(scores: Mapping[str, Sequence[float]]) -> Distribution | None:
    """Gaussian kernel densities of scores by model (Silverman's bandwidth), on a common axis.

    None where there are no scores.
    """
    known = {model: np.asarray(values, np.float64) for model, values in scores.items() if values}
    if not known:
        return None
    every = np.concatenate(list(known.values()))
    spread = float(np.ptp(every)) or max(abs(float(every[0])), 1.0) * 0.02
    low, high = float(every.min()) - 0.08 * spread, float(every.max()) + 0.08 * spread
    grid = np.linspace(low, high, GRID)
    densities = {}
    for model, values in known.items():
        width = max(1.06 * float(values.std()) * len(values) ** -0.2, (high - low) / GRID)
        distances = (grid[:, None] - values) / width
        densities[model] = np.exp(-(distances**2) / 2).mean(axis=1) / width
    highest = max(float(density.max()) for density in densities.values())

    def place(value: float) -> float:
        return round((value - low) / (high - low), 4)

    outlines = {}
    for model, values in known.items():
        first, middle, third = np.quantile(values, [0.25, 0.5, 0.75])
        outlines[model] = Outline(
            tuple(round(float(density) / highest, 4) for density in densities[model]),
            (place(first), place(middle), place(third)),
            tuple(place(value) for value in values) if len(values) <= MOST_DOTS else (),
        )
    return Distribution(low, high, outlines)
