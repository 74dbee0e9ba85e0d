"""Draws a recipe's scores against the param that the points vary, bytes, and steps of training."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stages.experiments.collect import Collection, Point
from stages.experiments.columns import COLUMNS
from stages.experiments.recipe import Chart
from stages.experiments.seed_means import Mean
from tvqrap.runtime.atomic import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STEPS = "steps of training"
LABEL = 0.08
"""Room of a tick's label, as a part of the axis."""
STYLES = ("solid", "dashed", "dotted", "dashdot")
"""Styles of the lines of a chart, where each of their points has a line of its own."""


@dataclass(frozen=True)
class Drawn:
    """One line of a panel: a score at places along the axis."""

    title: str
    places: tuple[float, ...]
    means: tuple[Mean | None, ...]
    colour: str
    style: str = "solid"


def draw_chart(collection: Collection, path: Path) -> None:
    """Writes a PNG with a column of panels per score: means with t-intervals over seeds.

    The second row has the bytes of an image's tokens along the axis (packed codes and structure),
    to show the cost of a structure. With milestones, a third one has the steps of training.
    Points without a score leave a gap and are named.
    """
    chart = collection.recipe.chart
    if chart is None:
        raise ValueError(f"{collection.recipe.title}: the recipe has no chart")
    from matplotlib.figure import Figure

    labels = [chart.x, "bytes of an image's tokens"]
    labels += [STEPS] if collection.recipe.milestones > 1 else []
    size = (4 * len(chart.scores), 3.25 * len(labels))
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    panels = figure.subplots(len(labels), len(chart.scores), squeeze=False)
    for label, line_of_panels in zip(labels, panels, strict=True):
        for column, axes in zip(chart.scores, line_of_panels, strict=True):
            _draw(axes, list(_lines(collection, chart, label, column)))
            better = {"higher": " ↑", "lower": " ↓", None: ""}[COLUMNS[column].better]
            axes.set_title(COLUMNS[column].title + better)
            axes.set_xlabel(label)
        line_of_panels[0].legend(fontsize="x-small", ncols=2)
    missing = [
        f"{point.name} ({len(point.missing)} of {len(point.results)} seeds)"
        for point in collection.points
        if point.missing
    ]
    note = f"missing: {', '.join(missing)}" if missing else ""
    figure.suptitle(collection.recipe.title + (f"\n{note}" if note else ""), fontsize=11)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


def _lines(collection: Collection, chart: Chart, label: str, column: str) -> Iterator[Drawn]:
    """The lines of one panel."""
    points = {point.name: point for point in collection.points}
    for number, (title, names) in enumerate(chart.lines.items()):
        shown = [points[name] for name in names if name in points]
        if label == STEPS:
            for colour, point in enumerate(shown):
                yield Drawn(
                    point.name,
                    tuple(float(steps) for _, steps in point.rows),
                    tuple(point.mean(row, column) for row, _ in point.rows),
                    f"C{colour}",
                    STYLES[number % len(STYLES)],
                )
        else:
            places = tuple(_place(point, chart, label) for point in shown)
            means = (point.mean(collection.recipe.models[0], column) for point in shown)
            yield Drawn(title, places, tuple(means), f"C{number}")


def _place(point: Point, chart: Chart, label: str) -> float:
    if label == chart.x:
        return float(point.values[chart.x])
    return float(point.latent.packed_bytes + point.latent.structure_bytes)


def _draw(axes: "Axes", lines: list[Drawn]) -> None:
    for line in lines:
        axes.errorbar(
            line.places,
            [float("nan") if mean is None else mean.value for mean in line.means],
            yerr=[0.0 if mean is None else mean.half or 0.0 for mean in line.means],
            label=line.title,
            color=line.colour,
            linestyle=line.style,
            marker="o",
            capsize=3,
        )
    ticks = sorted({place for line in lines for place in line.places})
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, axis_labels(ticks), rotation=30)
    axes.minorticks_off()
    axes.grid(alpha=0.3)


def axis_labels(ticks: list[float]) -> list[str]:
    """The ticks' labels, empty for those that would lie on the label to their left."""
    room = LABEL * math.log(ticks[-1] / ticks[0])
    labels: list[str] = []
    last = 0.0
    for tick in ticks:
        shown = not last or math.log(tick / last) >= room
        labels.append(f"{tick:g}" if shown else "")
        last = tick if shown else last
    return labels
