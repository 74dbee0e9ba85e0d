"""Two results on the same images by the same protocol: differences with paired intervals."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from tvqrap.comparison.protocols import compare_protocols
from tvqrap.comparison.result_files import EvaluationResult
from tvqrap.evaluation.metrics.registry import METRICS
from tvqrap.evaluation.statistics.intervals import Interval, caution
from tvqrap.evaluation.statistics.paired import (
    Difference,
    Value,
    Verdict,
    paired_difference,
    values_of,
    verdicts,
)
from tvqrap.runtime.errors import UserError


@dataclass(frozen=True)
class Entry:
    """One metric of one model in both results, over the images that have it in both.

    A number of the whole set (FID) has neither an interval nor a verdict.
    """

    model: str
    metric: str
    first: float
    second: float
    difference: Interval | None
    """The second minus the first."""
    verdict: Verdict | None
    """Verdict on the second, corrected for the number of metrics of the model."""


@dataclass(frozen=True)
class Compared:
    """The differences between two results."""

    images: int
    entries: tuple[Entry, ...]
    notes: tuple[str, ...]


def compare(first: EvaluationResult, second: EvaluationResult) -> Compared:
    """Compares the models that both results have, or the only model of each.

    Raises UserError, naming the difference, for results on other images, without a metric in
    common, or by another protocol, see `compare_protocols`.
    """
    pairs = [(name, name) for name in first.models if name in second.models]
    notes = []
    if not pairs and len(first.models) == len(second.models) == 1:
        pairs = [(first.models[0], second.models[0])]
        notes.append(f"A is {first.models[0]}, B is {second.models[0]}")
    if not pairs:
        raise UserError(
            f"{second.path}: has {', '.join(second.models)}, expected one of the models of "
            f"{first.path}: {', '.join(first.models)}"
        )
    paths = (first.path, second.path)
    notes += compare_protocols(first.protocol, second.protocol, pairs, paths)
    _check_same_images(first, second)
    entries = []
    for pair in pairs:
        found, lacking = _compare_pair(first, second, pair)
        entries += found
        notes += lacking
    if not entries:
        scored = [", ".join(result.protocol.metrics) for result in (first, second)]
        raise UserError(
            f"{second.path}: has no score by a metric of {first.path}: found {scored[1]}, expected "
            f"one of {scored[0]}"
        )
    few = caution(len({row.photo for row in first.rows}))
    notes += [few] if few else []
    images = len({row.image for row in first.rows})
    return Compared(images, tuple(entries), tuple(notes))


def _compare_pair(
    first: EvaluationResult, second: EvaluationResult, pair: tuple[str, str]
) -> tuple[list[Entry], list[str]]:
    """The metrics of a pair of models, and notes on images that only one of them has."""
    name = pair[0] if pair[0] == pair[1] else f"{pair[0]}, {pair[1]}"
    confidence = first.protocol.interval.confidence
    images = {row.image for row in first.rows if row.model == pair[0]}
    means: dict[str, tuple[float, float]] = {}
    differences: dict[str, Difference] = {}
    notes = []
    for metric in METRICS:
        before = values_of(first.rows, pair[0], metric)
        after = values_of(second.rows, pair[1], metric)
        difference = paired_difference(after, before, confidence)
        if difference is None:
            continue
        common = [image for image in before if image in after]
        if len(common) < len(images):
            notes.append(f"{pair[0]}: {metric} over {len(common)} of {len(images)} images")
        means[metric] = (_mean(before, common), _mean(after, common))
        differences[metric] = difference
    told = verdicts(differences, confidence)
    entries = [
        Entry(name, metric, *means[metric], difference.interval, told[metric])
        for metric, difference in differences.items()
    ]
    totals = first.totals.get(pair[0], {}), second.totals.get(pair[1], {})
    entries += [
        Entry(name, metric, totals[0][metric], totals[1][metric], None, None)
        for metric, about in METRICS.items()
        if about.of_set and metric in totals[0] and metric in totals[1]
    ]
    return entries, notes


def _mean(values: Mapping[str, Value], images: list[str]) -> float:
    """Mean over photographs of the mean over each photograph's images."""
    photos: dict[str, list[float]] = {}
    for image in images:
        photos.setdefault(values[image].photo, []).append(values[image].value)
    return statistics.fmean(statistics.fmean(crops) for crops in photos.values())


def _check_same_images(first: EvaluationResult, second: EvaluationResult) -> None:
    images = [{row.image for row in result.rows} for result in (first, second)]
    if images[0] != images[1]:
        alone = sorted(images[0] ^ images[1])
        raise UserError(
            f"{second.path}: not the images of {first.path}: {', '.join(alone[:10])} "
            f"{'are' if len(alone) > 1 else 'is'} in one alone"
        )
