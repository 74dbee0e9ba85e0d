"""Two results on the same images by the same protocol: what differs, with paired intervals."""

import csv
import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvqrap.comparison.protocols import compare_protocols
from tvqrap.evaluation.cases import ImageScores
from tvqrap.evaluation.metrics.registry import METRICS, Score
from tvqrap.evaluation.statistics.intervals import Interval, Resampling, caution
from tvqrap.evaluation.statistics.paired import (
    Value,
    Verdict,
    paired_difference,
    values_of,
    verdict,
)
from tvqrap.evaluation.summary import COLUMNS, METRICS_FILE, PER_IMAGE, SCORES
from tvqrap.runtime.errors import UserError


@dataclass(frozen=True)
class Result:
    """A result as it was written."""

    path: Path
    protocol: Mapping[str, Any]
    rows: tuple[ImageScores, ...]
    totals: Mapping[str, Mapping[str, float]]
    """By model and metric: numbers of the whole set."""

    @property
    def models(self) -> list[str]:
        """In their order."""
        return list(dict.fromkeys(row.model for row in self.rows))


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
    """Of the second less the first."""
    verdict: Verdict | None
    """Of the second."""


@dataclass(frozen=True)
class Compared:
    """What differs between two results."""

    images: int
    entries: tuple[Entry, ...]
    notes: tuple[str, ...]


def read_result(path: Path) -> Result:
    """Reads scores.json (or the folder that holds it) with per_image.csv beside it.

    Raises UserError where they are missing or not what they should be.
    """
    folder = path if path.is_dir() else path.parent
    scores = folder / SCORES if path.is_dir() or path.name == METRICS_FILE else path
    try:
        found = json.loads(scores.read_text(encoding="utf-8"))
        protocol, totals = found["protocol"], found.get("totals", {})
        for key in ("metrics", "data", "models", "versions"):
            dict(protocol[key])
        with (folder / PER_IMAGE).open(encoding="utf-8", newline="") as file:
            rows = tuple(_row(line) for line in csv.DictReader(file))
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: not found, expected a result of evaluate") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{scores}: not a result of evaluate ({error!r})") from None
    return Result(scores, protocol, rows, totals)


def _row(line: dict[str, str]) -> ImageScores:
    scores = {
        name: Score(float(value)) if value else Score(None, "missing")
        for name, value in line.items()
        if name in COLUMNS
    }
    return ImageScores(line["model"], line["image"], line["photo"], scores)


def compare(first: Result, second: Result) -> Compared:
    """Metrics of the models that both have, or of the only model of each.

    Raises UserError, naming what differs, for results on other images, without a metric in common,
    or by another protocol, as `compare_protocols` says.
    """
    notes = []
    pairs = [(name, name) for name in first.models if name in second.models]
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
    resampling = _resampling(first)
    entries = []
    for ours, theirs in pairs:
        name = ours if ours == theirs else f"{ours}, {theirs}"
        for metric, about in METRICS.items():
            if about.of_set:
                a, b = (
                    result.totals.get(model, {}).get(metric)
                    for result, model in ((first, ours), (second, theirs))
                )
                if a is not None and b is not None:
                    entries.append(Entry(name, metric, a, b, None, None))
                continue
            before = values_of(first.rows, ours, metric)
            after = values_of(second.rows, theirs, metric)
            common = [image for image in before if image in after]
            if not common:
                continue
            asked = {row.image for row in first.rows if row.model == ours}
            if len(common) < len(asked):
                notes.append(f"{ours}: {metric} over {len(common)} of {len(asked)} images")
            difference = paired_difference(after, before, resampling)
            assert difference is not None
            entries.append(
                Entry(
                    name,
                    metric,
                    _mean(before, common),
                    _mean(after, common),
                    difference,
                    verdict(difference, about.better),
                )
            )
    if not entries:
        scored = [", ".join(result.protocol["metrics"]) for result in (first, second)]
        raise UserError(
            f"{second.path}: has no score by a metric of {first.path}: found {scored[1]}, expected "
            f"one of {scored[0]}"
        )
    few = caution(len({row.photo for row in first.rows}))
    notes += [few] if few else []
    images = len({row.image for row in first.rows})
    return Compared(images, tuple(entries), tuple(notes))


def _mean(values: Mapping[str, Value], images: list[str]) -> float:
    """Over photographs, as all means."""
    photos: dict[str, list[float]] = {}
    for image in images:
        photos.setdefault(values[image].photo, []).append(values[image].value)
    return statistics.fmean(statistics.fmean(crops) for crops in photos.values())


def _resampling(result: Result) -> Resampling:
    try:
        about = result.protocol["interval"]
        return Resampling(about["samples"], about["confidence"], about["seed"])
    except KeyError as error:
        raise UserError(f"{result.path}: not a result of evaluate ({error!r})") from None


def _check_same_images(first: Result, second: Result) -> None:
    images = [{row.image for row in result.rows} for result in (first, second)]
    if images[0] != images[1]:
        alone = sorted(images[0] ^ images[1])
        raise UserError(
            f"{second.path}: not the images of {first.path}: {', '.join(alone[:10])} "
            f"{'are' if len(alone) > 1 else 'is'} in one alone"
        )
