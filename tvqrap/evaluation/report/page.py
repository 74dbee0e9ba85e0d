"""The page of an evaluation: one file that needs no server and requests nothing.

It shows the scores with the best marked, their distributions, and selected images to compare with
a slider. Nothing in it depends on the time or the machine.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tvqrap.evaluation.baselines import enlarge
from tvqrap.evaluation.metrics.registry import VERDICT
from tvqrap.evaluation.report.embedding import Embedded, embed
from tvqrap.evaluation.report.failures import failure_lines
from tvqrap.evaluation.report.selection import Pick, Picked, pick_images
from tvqrap.evaluation.report.table import best_of
from tvqrap.evaluation.results import Results
from tvqrap.evaluation.statistics.distributions import Distribution, distribution
from tvqrap.evaluation.statistics.paired import paired_difference, values_of, verdicts
from tvqrap.evaluation.summary import COLUMNS, SCORES, Summary
from tvqrap.runtime.atomic import write_atomic

REPORT = "report.html"
BUDGET = 12_000_000
"""Bytes of the pictures in a page, at most."""
PICTURES = 12
LISTED = 200
"""Lines of failures on a page, and of notes."""

_TEMPLATES = Path(__file__).parent / "template"


@dataclass(frozen=True)
class Page:
    """Titles and choices of a page."""

    title: str
    data: str
    """The scored images, in one line."""
    focus: str
    """The model by whose scores the images are picked."""
    ceiling: str | None = None
    """A model that is shown but not compared (the tokenizer, an upper bound that sees HR)."""
    pictures: int = PICTURES
    """Images to compare, at most."""


def write_report(
    path: Path,
    page: Page,
    results: Results,
    summary: Summary,
    protocol: Mapping[str, Any],
    budget: int = BUDGET,
) -> None:
    """Writes the page, whole or not at all."""
    store = results.store
    models = list(summary.intervals)
    goals = [c for c in summary.columns if COLUMNS[c].better is not None]
    per_image = [c for c in goals if any(c in summary.intervals[model] for model in models)]
    first = [*(c for c in VERDICT if c in per_image), *(c for c in per_image if c not in VERDICT)]
    picked = pick_images(results.rows, page.focus, first, page.pictures)
    numbers = {entry.image: entry.number for entry in results.images}
    shown = [_with_bicubic(store.pictures(numbers[pick.image])) for pick in picked.picks]
    there = tuple(pick for pick, found in zip(picked.picks, shown, strict=True) if found)
    embedded, lossy = embed([pictures for pictures in shown if pictures], budget)
    picked = Picked(there, picked.left_out).first(len(embedded))
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    text = environment.get_template("report.html").render(
        page=page,
        summary=summary,
        colours={model: index % 8 for index, model in enumerate(models)},
        columns=[(c, COLUMNS[c]) for c in summary.columns],
        cells=_cells(results, summary, page.ceiling),
        confidence=f"{100 * results.confidence:g}",
        distributions=[
            (COLUMNS[c], found)
            for c in per_image
            if (found := _distribution(results, models, c)) is not None
        ],
        failures=failure_lines(summary.failures, LISTED, SCORES),
        notes=results.notes[:LISTED],
        protocol=json.dumps(protocol, indent=2, ensure_ascii=False),
        lossy=lossy,
        left_out=[f"{place} by {COLUMNS[metric].title}" for metric, place in picked.left_out],
        viewer=_viewer(results, first, picked.picks, embedded),
    )
    write_atomic(path, text)


def _with_bicubic(pictures: dict[str, Any]) -> dict[str, Any]:
    """Adds LR enlarged by bicubic interpolation, unless a model is bicubic already."""
    if "LR" not in pictures or "bicubic" in pictures:
        return pictures
    lr, rest = pictures["LR"], {k: v for k, v in pictures.items() if k != "LR"}
    return {"LR": lr, "LR, bicubic": enlarge(lr, "bicubic"), **rest}


def _distribution(results: Results, models: Sequence[str], column: str) -> Distribution | None:
    return distribution(
        {
            model: [value.value for value in values_of(results.rows, model, column).values()]
            for model in models
        }
    )


def _cells(
    results: Results, summary: Summary, ceiling: str | None
) -> dict[str, dict[str, dict[str, Any]]]:
    """By model and column: how a number is shown in the table."""
    failed = {(failure.model, failure.metric) for failure in summary.failures}
    best = {column: best_of(summary, column, ceiling) for column in summary.columns}
    cells: dict[str, dict[str, dict[str, Any]]] = {}
    for model, intervals in summary.intervals.items():
        level = set() if model == ceiling else _level_columns(results, model, best)
        cells[model] = {}
        for column in summary.columns:
            digits = COLUMNS[column].digits
            value, interval = summary.mean(model, column), intervals.get(column)
            cells[model][column] = {
                "value": None if value is None else f"{value:.{digits}f}",
                "interval": interval and interval.shown(digits, " – "),
                "best": model == best[column],
                "lost": (model, column) in failed,
                "level": column in level,
                "images": interval.images
                if interval is not None and interval.images < summary.images
                else None,
            }
    return cells


def _level_columns(results: Results, model: str, best: Mapping[str, str | None]) -> set[str]:
    """Columns in which the images do not tell a model apart from the best one."""
    differences = {}
    for column, other in best.items():
        if other is None or other == model:
            continue
        values = values_of(results.rows, model, column)
        difference = paired_difference(
            values, values_of(results.rows, other, column), results.confidence
        )
        if difference is not None:
            differences[column] = difference
    told = verdicts(differences, results.confidence)
    return {column for column, verdict in told.items() if verdict == "not told apart"}


def _viewer(
    results: Results, metrics: Sequence[str], picks: Sequence[Pick], embedded: Sequence[Embedded]
) -> dict[str, Any]:
    """The data of the page's script."""
    scores: dict[tuple[str, str], dict[str, float]] = {}
    for row in results.rows:
        known = {name: s.value for name, s in row.scores.items() if s.value is not None}
        scores[row.image, row.model] = known
    images = []
    for pick, pictures in zip(picks, embedded, strict=True):
        images.append(
            {
                "name": pick.image,
                "reasons": pick.reasons,
                "size": pictures.size,
                "box": pictures.box,
                "cells": [
                    {"name": name, "uri": uri, "scores": scores.get((pick.image, name), {})}
                    for name, uri in pictures.uris.items()
                ],
            }
        )
    columns = [{"name": name, **asdict(COLUMNS[name])} for name in metrics]
    return {"images": images, "metrics": columns}
