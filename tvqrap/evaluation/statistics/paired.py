"""Compares two upscalers on the same images by paired differences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tvqrap.evaluation.cases import ImageScores
from tvqrap.evaluation.metrics.registry import METRICS
from tvqrap.evaluation.statistics.intervals import Interval, mean_interval, p_of_zero_mean

Verdict = Literal["better", "worse", "not told apart"]


@dataclass(frozen=True)
class Value:
    """A score of one image."""

    photo: str
    value: float


@dataclass(frozen=True)
class Difference:
    """The mean difference between two models by one metric."""

    interval: Interval
    p: float | None
    """Two-sided p-value of a mean of 0; None where photographs are too few for a verdict."""


def values_of(rows: Sequence[ImageScores], model: str, column: str) -> dict[str, Value]:
    """By image: a model's scores in a column; missing scores are left out."""
    return {
        row.image: Value(row.photo, score.value)
        for row in rows
        if row.model == model
        and (score := row.scores.get(column)) is not None
        and score.value is not None
    }


def paired_difference(
    first: Mapping[str, Value], second: Mapping[str, Value], confidence: float
) -> Difference | None:
    """Mean over photographs of `first` minus `second`; None without common images.

    Both have the same photographs, so the spread between photographs, which dominates the interval
    of a model's mean, cancels.
    """
    differences: dict[str, list[float]] = {}
    for image, value in first.items():
        if image in second:
            differences.setdefault(value.photo, []).append(value.value - second[image].value)
    if not differences:
        return None
    return Difference(mean_interval(differences, confidence), p_of_zero_mean(differences))


def verdicts(differences: Mapping[str, Difference], confidence: float) -> dict[str, Verdict]:
    """By metric: whether the first of two models is better, by the differences of one pair.

    The more metrics are looked at, the likelier one of them differs by chance. Holm's method keeps
    the probability of any wrong verdict of the pair below `1 - confidence`.
    """
    found: dict[str, Verdict] = dict.fromkeys(differences, "not told apart")
    tested = sorted((d.p, metric) for metric, d in differences.items() if d.p is not None)
    for rank, (p, metric) in enumerate(tested):
        if p >= (1 - confidence) / (len(tested) - rank):
            break
        better = METRICS[metric].better  # type: ignore[index]  # compared columns are metrics
        higher = differences[metric].interval.mean > 0
        found[metric] = "better" if higher == (better == "higher") else "worse"
    return found
