"""The scores as a table on the terminal."""

from rich import box
from rich.table import Table

from tvqrap.evaluation.scores import COLUMNS, Summary


def score_table(summary: Summary, title: str, ceiling: str | None = None) -> Table:
    """A line per metric and a column per model, so that four models fit into 80 characters.

    Intervals stand under the means where there are photographs enough; the best of each line is
    bold and has a star. `ceiling` names a model that is shown and takes no part in that (the
    tokenizer, which sees HR).
    """
    caption = summary.caution or None
    table = Table(title=title, caption=caption, box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column("")
    for model in summary.intervals:
        table.add_column(model, justify="right", overflow="fold")
    for column in summary.columns:
        arrow = {"higher": " ↑", "lower": " ↓", None: ""}[COLUMNS[column].better]
        best = best_of(summary, column, ceiling)
        cells = [_cell(summary, model, column, model == best) for model in summary.intervals]
        table.add_row(COLUMNS[column].title + arrow, *cells)
    return table


def _cell(summary: Summary, model: str, column: str, best: bool) -> str:
    value, digits = summary.mean(model, column), COLUMNS[column].digits
    if value is None:
        failed = any(f.model == model and f.metric == column for f in summary.failures)
        return "missing" if column in summary.missing else "failed" if failed else "–"
    text = f"[bold]{value:.{digits}f} *[/bold]" if best else f"{value:.{digits}f}"
    interval = summary.intervals[model].get(column)
    if interval is None:
        return text
    ends = interval.shown(digits, "–")
    if ends is not None:
        text += f"\n[dim]{ends}[/dim]"
    if interval.images < summary.images:
        text += f"\n{interval.images} of {summary.images} images"
    return text


def best_of(summary: Summary, column: str, ceiling: str | None = None) -> str | None:
    """The model with the best mean in a column; None where there is nothing to compare.

    A model that lost some of the images takes no part: its mean is one of other images.
    """
    better = COLUMNS[column].better
    values = {
        model: value
        for model in summary.intervals
        if model != ceiling
        and (value := summary.mean(model, column)) is not None
        and _is_whole(summary, model, column)
    }
    if better is None or len(values) < 2:
        return None
    return (max if better == "higher" else min)(values, key=values.__getitem__)


def _is_whole(summary: Summary, model: str, column: str) -> bool:
    interval = summary.intervals[model].get(column)
    return interval is None or interval.images == summary.images
