"""Whether one upscaler is better than another on the same images: paired differences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tvqrap.evaluation.cases import ImageScores
from tvqrap.evaluation.statistics.intervals import Interval, Resampling, mean_interval

Verdict = Literal["better", "worse", "not told apart"]


@dataclass(frozen=True)
class Value:
    """A score of one image."""

    photo: str
    value: float


def values_of(rows: Sequence[ImageScores], model: str, column: str) -> dict[str, Value]:
    """By image: a model's scores in a column; those that are missing are left out."""
    return {
        row.image: Value(row.photo, score.value)
        for row in rows
        if row.model == model
        and (score := row.scores.get(column)) is not None
        and score.value is not None
    }


def paired_difference(
    ours: Mapping[str, Value], theirs: Mapping[str, Value], resampling: Resampling
) -> Interval | None:
    """Mean over photographs of `ours` minus `theirs` with its interval; None without common images.

    Both have the same photographs, so the differences between photographs, which are most of what a
    mean's own interval holds, drop out.
    """
    differences: dict[str, list[float]] = {}
    for image, our in ours.items():
        if image in theirs:
            differences.setdefault(our.photo, []).append(our.value - theirs[image].value)
    return mean_interval(differences, resampling) if differences else None


def verdict(difference: Interval, better: Literal["higher", "lower"]) -> Verdict:
    """What an interval of differences says: 0 inside it, or too few photographs, says nothing."""
    if difference.low is None or difference.high is None:
        return "not told apart"
    if difference.low <= 0 <= difference.high:
        return "not told apart"
    return "better" if (difference.mean > 0) == (better == "higher") else "worse"
