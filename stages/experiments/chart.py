"""Draws a recipe's scores against the param that the points vary, and against bytes."""

from collections.abc import Callable
from pathlib import Path

from stages.experiments.collect import Collection, Point
from tvqrap.evaluation.summary import COLUMNS
from tvqrap.runtime.atomic import atomic_path


def draw_chart(collection: Collection, path: Path) -> None:
    """Writes a PNG with a column per score: means with t-intervals over seeds.

    The lower row has the bytes of an image's tokens along the axis (packed codes and structure), to
    show the cost of a structure. Points without a score leave a gap and are named.
    """
    chart = collection.recipe.chart
    if chart is None:
        raise ValueError(f"{collection.recipe.title}: the recipe has no chart")
    from matplotlib.figure import Figure

    rows: list[tuple[str, Callable[[Point], float]]] = [
        (chart.x, lambda point: float(point.values[chart.x])),
        (
            "bytes of an image's tokens",
            lambda point: float(point.latent.packed_bytes + point.latent.structure_bytes),
        ),
    ]
    points = {point.name: point for point in collection.points}
    figure = Figure(figsize=(4 * len(chart.scores), 6.5), dpi=120, layout="constrained")
    panels = figure.subplots(len(rows), len(chart.scores), squeeze=False)
    for (label, position), line_of_panels in zip(rows, panels, strict=True):
        for column, axes in zip(chart.scores, line_of_panels, strict=True):
            ticks: set[float] = set()
            for title, names in chart.lines.items():
                shown = [points[name] for name in names if name in points]
                means = [point.mean(collection.recipe.models[0], column) for point in shown]
                xs = [position(point) for point in shown]
                ticks |= set(xs)
                axes.errorbar(
                    xs,
                    [float("nan") if mean is None else mean.value for mean in means],
                    yerr=[0.0 if mean is None else mean.half or 0.0 for mean in means],
                    label=title,
                    marker="o",
                    capsize=3,
                )
            axes.set_xscale("log", base=2)
            axes.set_xticks(sorted(ticks), [f"{tick:g}" for tick in sorted(ticks)], rotation=30)
            axes.minorticks_off()
            better = {"higher": " ↑", "lower": " ↓", None: ""}[COLUMNS[column].better]
            axes.set_title(COLUMNS[column].title + better)
            axes.set_xlabel(label)
            axes.grid(alpha=0.3)
    panels[0][0].legend()
    missing = [
        f"{point.name} ({len(point.missing)} of {len(point.results)} seeds)"
        for point in collection.points
        if point.missing
    ]
    note = f"missing: {', '.join(missing)}" if missing else ""
    figure.suptitle(collection.recipe.title + (f"\n{note}" if note else ""), fontsize=11)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})
