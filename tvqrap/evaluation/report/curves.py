"""Quantiles of the scores of a set's images for `dvc plots`: one table per metric."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tvqrap.evaluation.cases import ImageScores
from tvqrap.evaluation.metrics.registry import METRICS
from tvqrap.evaluation.statistics.paired import values_of
from tvqrap.evaluation.summary import Summary
from tvqrap.runtime.atomic import write_atomic

STEPS = 20
"""Number of steps from the lowest to the highest score."""


def write_score_curves(folder: Path, summary: Summary, rows: Sequence[ImageScores]) -> None:
    """Writes `METRIC.tsv` for each metric of images: a column per model that has scores.

    The line with `percent` p holds each model's p-th percentile over the images.
    """
    for column in summary.columns:
        if column not in METRICS or METRICS[column].of_set:
            continue
        percent = np.linspace(0, 100, STEPS + 1)
        curves = {}
        for model in summary.intervals:
            values = [value.value for value in values_of(rows, model, column).values()]
            if values:
                curves[model] = np.percentile(values, percent)
        lines = ["\t".join(["percent", *curves])]
        lines += [
            "\t".join([f"{p:g}", *(f"{curve[index]:.6g}" for curve in curves.values())])
            for index, p in enumerate(percent)
        ]
        write_atomic(folder / f"{column}.tsv", "\n".join(lines) + "\n")
