"""Which images of a test set to look at: the worst, a median one and the best by each metric."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tvqrap.evaluation.metrics import METRICS
from tvqrap.evaluation.scoring import ImageScores

Place = Literal["worst", "median", "best"]


@dataclass(frozen=True)
class Pick:
    """An image to look at, and why."""

    image: str
    reasons: tuple[tuple[str, Place], ...]
    """Metrics with its place among their scores."""


def pick_images(
    rows: Sequence[ImageScores], model: str, metrics: Sequence[str], limit: int
) -> list[Pick]:
    """At most `limit` images by the scores of one model, metric after metric.

    Where no score tells them apart, those that come first. Ties go to the image that comes first.
    """
    reasons: dict[str, list[tuple[str, Place]]] = {}
    ours = [row for row in rows if row.model == model]
    for metric in metrics:
        scored = [
            (score.value, row.image)
            for row in ours
            if (score := row.scores.get(metric)) is not None and score.value is not None
        ]
        if not scored:
            continue
        known = METRICS[metric]  # type: ignore[index]  # a column of images is a metric
        # Stable: images with equal scores stay in their order.
        scored.sort(key=lambda entry: entry[0], reverse=known.better == "lower")
        places: tuple[tuple[Place, int], ...] = (
            ("worst", 0),
            ("median", len(scored) // 2),
            ("best", len(scored) - 1),
        )
        for place, index in places:
            image = scored[index][1]
            if image in reasons or len(reasons) < limit:
                reasons.setdefault(image, []).append((metric, place))
    if not reasons:
        reasons = {row.image: [] for row in ours[:limit]}
    return [Pick(image, tuple(found)) for image, found in reasons.items()]
