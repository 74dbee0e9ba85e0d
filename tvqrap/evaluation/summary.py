"""Turns scores of images into the numbers and files of an evaluation.

`metrics.json` holds the means of the metrics, for tools that compare runs; `scores.json` holds
intervals, numbers of the codes (accuracy, usage, perplexity), the protocol and the failures;
`per_image.csv` holds every score.
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from tvqrap.evaluation.cases import ImageScores
from tvqrap.evaluation.metrics.pyiqa import installed, pyiqa_version
from tvqrap.evaluation.metrics.registry import METRICS, Score
from tvqrap.evaluation.statistics.intervals import Interval, caution, mean_interval
from tvqrap.runtime.atomic import write_atomic

METRICS_FILE, SCORES, PER_IMAGE = "metrics.json", "scores.json", "per_image.csv"
"""Names of the files of an evaluation."""


@dataclass(frozen=True)
class Column:
    """How a number is named and shown."""

    title: str
    better: Literal["higher", "lower"] | None
    """None: a diagnostic, not a goal."""
    digits: int


COLUMNS: dict[str, Column] = {
    **{name: Column(m.title, m.better, m.digits) for name, m in METRICS.items()},
    "code_accuracy": Column("code accuracy", None, 4),
    "code_usage": Column("code usage", None, 3),
    "code_perplexity": Column("perplexity", None, 1),
}


@dataclass(frozen=True)
class Failure:
    """A score that is missing, with the reason."""

    model: str
    image: str
    """Empty for a number of the whole set."""
    metric: str
    reason: str


@dataclass(frozen=True)
class Summary:
    """The numbers of an evaluation."""

    columns: tuple[str, ...]
    intervals: Mapping[str, Mapping[str, Interval]]
    """By model and column, over the images that have the score."""
    totals: Mapping[str, Mapping[str, float]]
    """By model and column: numbers of the whole set."""
    images: int
    """Number of images that each model was given."""
    photos: int
    """Number of photographs that the images show."""
    failures: tuple[Failure, ...]
    missing: Mapping[str, str]
    """Metrics that cannot be computed at all, with the reason."""

    @property
    def caution(self) -> str:
        """One line where photographs are too few for verdicts; empty where there are enough."""
        return caution(self.photos)

    @property
    def lost(self) -> int:
        """Number of scores that were asked for and are missing; a missing metric counts once."""
        return len(self.failures) + len(self.missing)

    def mean(self, model: str, column: str) -> float | None:
        """A model's number in a column; None where it has none."""
        if column in self.intervals[model]:
            return self.intervals[model][column].mean
        return self.totals.get(model, {}).get(column)


def summarise(
    rows: Sequence[ImageScores],
    totals: Mapping[str, Mapping[str, Score]],
    confidence: float,
    missing: Mapping[str, str],
) -> Summary:
    """Means with intervals, models and columns in the order of their first appearance.

    `totals` are numbers of the whole set, by model and column. A score that is missing stays out of
    its mean and is listed among the failures, unless its metric is missing altogether.
    """
    models = list(dict.fromkeys(row.model for row in rows))
    columns = list(dict.fromkeys(name for row in rows for name in row.scores))
    intervals: dict[str, dict[str, Interval]] = {}
    for model in models:
        intervals[model] = {}
        for column in columns:
            values: dict[str, list[float]] = {}
            for row in rows:
                score = row.scores.get(column)
                if row.model == model and score is not None and score.value is not None:
                    values.setdefault(row.photo, []).append(score.value)
            if values:
                intervals[model][column] = mean_interval(values, confidence)
    failures = [
        Failure(row.model, row.image, name, score.reason)
        for row in rows
        for name, score in row.scores.items()
        if score.value is None and name not in missing
    ]
    failures += [
        Failure(model, "", name, score.reason)
        for model, numbers in totals.items()
        for name, score in numbers.items()
        if score.value is None and name not in missing
    ]
    columns += dict.fromkeys(name for numbers in totals.values() for name in numbers)
    found = {
        model: {name: score.value for name, score in numbers.items() if score.value is not None}
        for model, numbers in totals.items()
    }
    images, photos = (len({getattr(row, name) for row in rows}) for name in ("image", "photo"))
    return Summary(tuple(columns), intervals, found, images, photos, tuple(failures), dict(missing))


def protocol(
    metrics: Mapping[str, Any],
    confidence: float,
    *,
    data: Mapping[str, Any],
    models: Mapping[str, Any],
) -> dict[str, Any]:
    """All that the scores depend on.

    `data` and `models` describe the scored images and models by fingerprints; padding and tiling
    are part of each model's description.
    """
    import torch

    import tvqrap

    return {
        "metrics": dict(metrics),
        "pixels": "8-bit RGB, no border cropped",
        "mean": "over photographs, of the mean over each photograph's images",
        "interval": {"method": "Student's t over photographs", "confidence": confidence},
        "versions": {
            "tvqrap": tvqrap.__version__,
            "pyiqa": pyiqa_version(),
            "torch": torch.__version__,
            "pillow": metadata.version("pillow"),
            **_packages(metrics),
        },
        "data": dict(data),
        "models": dict(models),
    }


def _packages(metrics: Iterable[str]) -> dict[str, str | None]:
    """Versions of the packages that the metrics' networks come from, beside pyiqa and torch."""
    names = [name for metric in metrics for name in METRICS[metric].packages]  # type: ignore[index]
    return {name: installed(name) for name in dict.fromkeys(names)}


def padding(multiple: int) -> dict[str, Any]:
    """How our upscalers pad LR images, for the protocol."""
    return {"multiple": multiple, "mode": "reflect", "where": "bottom and right"}


def _round(value: float | None, column: str) -> float | None:
    return None if value is None else round(value, COLUMNS[column].digits)


def escaped(cell: str) -> str:
    """A cell of text that no spreadsheet takes for a formula; `unescaped` reverses it."""
    return f"'{cell}" if re.match(r"'*[=+\-@\t\r]", cell) else cell


def unescaped(cell: str) -> str:
    """The text of a cell that `escaped` wrote."""
    return cell[1:] if re.match(r"'+[=+\-@\t\r]", cell) else cell


def _per_image(summary: Summary, rows: Sequence[ImageScores]) -> str:
    columns = [c for c in summary.columns if any(c in row.scores for row in rows)]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["model", "photo", "image", *columns, "failed"])
    for row in rows:
        cells = []
        for column in columns:
            score = row.scores.get(column)
            # Two digits more than a mean has: scores of images are averaged again.
            value = None if score is None else score.value
            cells.append("" if value is None else f"{value:.{COLUMNS[column].digits + 2}f}")
        failed = [f"{name}: {s.reason}" for name, s in row.scores.items() if s.value is None]
        names = [escaped(name) for name in (row.model, row.photo, row.image)]
        writer.writerow([*names, *cells, escaped("; ".join(failed))])
    return stream.getvalue()


def write_scores(
    folder: Path,
    summary: Summary,
    rows: Sequence[ImageScores],
    protocol: Mapping[str, Any],
    notes: Sequence[str] = (),
) -> None:
    """Writes metrics.json, scores.json and per_image.csv, each whole or not at all."""
    means = {
        model: {
            column: _round(summary.mean(model, column), column)
            for column in summary.columns
            if column in METRICS  # diagnostics would only widen the tables of runs
        }
        for model in summary.intervals
    }
    details = {
        "protocol": protocol,
        "scores": {
            model: {column: asdict(interval) for column, interval in intervals.items()}
            for model, intervals in summary.intervals.items()
        },
        "totals": summary.totals,
        "missing": summary.missing,
        "failures": [asdict(failure) for failure in summary.failures],
        "notes": list(notes),
    }
    write_atomic(folder / PER_IMAGE, _per_image(summary, rows))
    write_atomic(folder / SCORES, json.dumps(details, indent=2) + "\n")
    write_atomic(folder / METRICS_FILE, json.dumps(means, indent=2) + "\n")
