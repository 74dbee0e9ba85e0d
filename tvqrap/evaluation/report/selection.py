"""Picks images of a test set: the worst, the best and a median one by each metric."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tvqrap.evaluation.cases import ImageScores
from tvqrap.evaluation.metrics.registry import METRICS

Place = Literal["worst", "best", "median"]


@dataclass(frozen=True)
class Pick:
    """A picked image with the reasons."""

    image: str
    reasons: tuple[tuple[str, Place], ...]
    """Metrics with the image's place among their scores."""


@dataclass(frozen=True)
class Picked:
    """The picked images, and the places that did not fit the limit."""

    picks: tuple[Pick, ...]
    left_out: tuple[tuple[str, Place], ...]
    """Metrics with the place among their scores whose image is not among the picks."""

    def first(self, count: int) -> "Picked":
        """The first picks alone; places that only the others show are left out."""
        shown = {reason for pick in self.picks[:count] for reason in pick.reasons}
        dropped = [r for pick in self.picks[count:] for r in pick.reasons if r not in shown]
        return Picked(self.picks[:count], (*self.left_out, *dropped))


def pick_images(
    rows: Sequence[ImageScores], model: str, metrics: Sequence[str], limit: int
) -> Picked:
    """At most `limit` images by the scores of one model.

    The worst by every metric come first, then the best, then the median ones, so that a small limit
    keeps the failures. Without any score, the first images are picked. Ties go to the first image.
    """
    rows_of_model = [row for row in rows if row.model == model]
    ranked: dict[str, list[str]] = {}
    for metric in metrics:
        scored = [
            (score.value, row.image)
            for row in rows_of_model
            if (score := row.scores.get(metric)) is not None and score.value is not None
        ]
        if scored:
            known = METRICS[metric]  # type: ignore[index]  # a column of images is a metric
            # The sort is stable: images with equal scores keep their order.
            scored.sort(key=lambda entry: entry[0], reverse=known.better == "lower")
            ranked[metric] = [image for _, image in scored]
    reasons: dict[str, list[tuple[str, Place]]] = {}
    left_out: list[tuple[str, Place]] = []
    places: tuple[Place, ...] = ("worst", "best", "median")
    for place in places:
        for metric, images in ranked.items():
            image = images[{"worst": 0, "best": -1, "median": len(images) // 2}[place]]
            if image in reasons or len(reasons) < limit:
                reasons.setdefault(image, []).append((metric, place))
            else:
                left_out.append((metric, place))
    if not reasons:
        reasons = {row.image: [] for row in rows_of_model[:limit]}
    picks = tuple(Pick(image, tuple(found)) for image, found in reasons.items())
    return Picked(picks, tuple(left_out))
