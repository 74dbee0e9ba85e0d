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
from tvqrap.evaluation.summary import COLUMNS, METRICS_FILE, PER_IMAGE, SCORES, unescaped
from tvqrap.runtime.documents import Document, read_document, read_regular
from tvqrap.runtime.errors import UserError

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

    Raises UserError, one line, where a file is missing or a value of it is not as expected.
    """
    folder = path if path.is_dir() else path.parent
    scores = folder / SCORES if path.is_dir() or path.name == METRICS_FILE else path
    try:
        found = read_document(scores, ScoresFile)
    except FileNotFoundError:
        raise UserError(f"{scores}: not found, expected a result of evaluate") from None
    return EvaluationResult(scores, found.protocol, _read_rows(folder / PER_IMAGE), found.totals)


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
    if not math.isfinite(value):
        raise UserError(f"{where} is {cell[:20]!r}, expected a finite number")
    return Score(value)
