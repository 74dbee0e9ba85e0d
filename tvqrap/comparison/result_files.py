"""Reads the files of an evaluation, scores.json and per_image.csv, with all of their values."""

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from tvqrap.evaluation.cases import ImageScores
from tvqrap.evaluation.metrics.registry import Score
from tvqrap.evaluation.statistics.intervals import Interval
from tvqrap.evaluation.summary import (
    COLUMNS,
    METRICS_FILE,
    PER_IMAGE,
    SCORES,
    summarise,
    unescaped,
)
from tvqrap.runtime.documents import Document, read_document, read_regular
from tvqrap.runtime.errors import UserError

_LARGEST = 1e100
"""Variances of larger scores may overflow."""

Confidence = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=0)]


class Tiling(Document):
    """Tiles in which large images were upscaled, in LR pixels."""

    tile: int
    overlap: int | None = None
    images: Count | None = None
    """Number of images that were upscaled in tiles."""


class ModelProtocol(Document):
    """The description of a model; fingerprints and other keys are kept as they are."""

    model_config = ConfigDict(extra="allow")

    kind: str
    device: str | None = None
    padding: dict[str, Any] | None = None
    tiling: Tiling | None = None


class IntervalProtocol(Document):
    """How intervals were computed."""

    method: str
    confidence: Confidence
    samples: int | None = None
    seed: int | None = None
    """Samples and seed are those of bootstrap intervals, which earlier versions wrote."""


class Protocol(Document):
    """All that scores depend on."""

    metrics: dict[str, dict[str, Any]]
    pixels: str
    mean: str
    interval: IntervalProtocol
    versions: dict[str, str | None]
    data: dict[str, Any]
    models: dict[str, ModelProtocol]


class IntervalScore(Document):
    """A mean with its interval."""

    mean: float
    low: float | None
    high: float | None
    photos: Count
    images: Count


class FailedScore(Document):
    """A score that is missing."""

    model: str
    image: str
    metric: str
    reason: str


class ScoresFile(Document):
    """The content of scores.json."""

    protocol: Protocol
    scores: dict[str, dict[str, IntervalScore]]
    totals: dict[str, dict[str, float]]
    missing: dict[str, str]
    failures: list[FailedScore]
    notes: list[str]


@dataclass(frozen=True)
class EvaluationResult:
    """A result as it was written."""

    path: Path
    protocol: Protocol
    rows: tuple[ImageScores, ...]
    totals: Mapping[str, Mapping[str, float]]
    """By model and metric: numbers of the whole set."""

    @property
    def models(self) -> list[str]:
        """The models, in their order."""
        return list(dict.fromkeys(row.model for row in self.rows))


def read_result(path: Path) -> EvaluationResult:
    """Reads scores.json (or the folder that holds it) with per_image.csv beside it.

    Raises UserError, one line, where a file is missing, a value of it is not as expected, or the
    two files are of different evaluations.
    """
    folder = path if path.is_dir() else path.parent
    scores = folder / SCORES if path.is_dir() or path.name == METRICS_FILE else path
    try:
        found = read_document(scores, ScoresFile)
    except FileNotFoundError:
        raise UserError(f"{scores}: not found, expected a result of evaluate") from None
    rows = _read_rows(folder / PER_IMAGE)
    _check_one_evaluation(scores, found, folder / PER_IMAGE, rows)
    return EvaluationResult(scores, found.protocol, rows, found.totals)


def _check_one_evaluation(
    scores: Path, found: ScoresFile, table: Path, rows: tuple[ImageScores, ...]
) -> None:
    """Raises UserError where the means of the table's scores are not those of scores.json."""
    means = summarise(rows, {}, found.protocol.interval.confidence, {}).intervals
    if means.keys() != found.scores.keys():
        raise UserError(
            f"{table}: has {', '.join(means)}, {scores} has {', '.join(found.scores)}; expected "
            "files of one evaluation"
        )
    for model, intervals in found.scores.items():
        for column in COLUMNS:
            wanted, mean = intervals.get(column), means[model].get(column)
            if wanted is None and mean is None:
                continue
            if wanted is None or mean is None or not _alike(wanted, mean, column):
                shown = ["none" if each is None else _described(each) for each in (mean, wanted)]
                raise UserError(
                    f"{table}: {column} of {model} is {shown[0]}, in {scores} it is {shown[1]}; "
                    "expected files of one evaluation"
                )


def _alike(wanted: IntervalScore, mean: Interval, column: str) -> bool:
    """Whether two means are of as many images, and equal but for the digits of the table."""
    digits = COLUMNS[column].digits
    return wanted.images == mean.images and abs(wanted.mean - mean.mean) < 10.0 ** -(digits + 1)


def _described(mean: IntervalScore | Interval) -> str:
    return f"{mean.mean:.6g} over {mean.images} images"


def _read_rows(path: Path) -> tuple[ImageScores, ...]:
    try:
        text = read_regular(path).decode("utf-8")
        lines = list(csv.reader(StringIO(text, newline=""), strict=True))
    except FileNotFoundError:
        raise UserError(f"{path}: not found, expected a result of evaluate") from None
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as CSV ({error})") from None
    header = lines[0] if lines else []
    for name in ("model", "photo", "image"):
        if header.count(name) != 1:
            raise UserError(f"{path}: found {header.count(name)} columns {name}, expected one")
    rows = [_row(f"{path}: line {n}", header, line) for n, line in enumerate(lines[1:], start=2)]
    seen = set()
    for row in rows:
        if (row.model, row.image) in seen:
            raise UserError(f"{path}: {row.image} by {row.model} is there twice, expected it once")
        seen.add((row.model, row.image))
    return tuple(rows)


def _row(where: str, header: list[str], cells: list[str]) -> ImageScores:
    if len(cells) != len(header):
        raise UserError(f"{where}: found {len(cells)} cells, expected {len(header)}")
    named = dict(zip(header, cells, strict=True))
    scores = {name: _score(f"{where}: {name}", named[name]) for name in header if name in COLUMNS}
    model, image, photo = (unescaped(named[name]) for name in ("model", "image", "photo"))
    return ImageScores(model, image, photo, scores)


def _score(where: str, cell: str) -> Score:
    if not cell:
        return Score(None, "missing")
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not abs(value) < _LARGEST:
        raise UserError(f"{where} is {cell[:20]!r}, expected a finite number below {_LARGEST:g}")
    return Score(value)
