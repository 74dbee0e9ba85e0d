"""The scores as a table on the terminal."""

from rich.table import Table

from tvqrap.evaluation.scores import COLUMNS, Summary


def score_table(summary: Summary, title: str, ceiling: str | None = None) -> Table:
    """A row per model; intervals under the means, the best of each column in bold with a star.

    `ceiling` names a model that is shown and takes no part (the tokenizer, which sees HR).
    """
    table = Table(title=title)
    table.add_column("")
    for column in summary.columns:
        arrow = {"higher": " ↑", "lower": " ↓", None: ""}[COLUMNS[column].better]
        table.add_column(COLUMNS[column].title + arrow, justify="right")
    best = {column: _best(summary, column, ceiling) for column in summary.columns}
    for model in summary.intervals:
        cells = []
        for column in summary.columns:
            value, digits = summary.mean(model, column), COLUMNS[column].digits
            if value is None:
                failed = any(f.model == model and f.metric == column for f in summary.failures)
                cells.append("failed" if failed else "–")
                continue
            text = f"{value:.{digits}f}"
            text = f"[bold]{text}*[/bold]" if model == best[column] else text
            if interval := summary.intervals[model].get(column):
                text += f"\n[dim]{interval.low:.{digits}f}–{interval.high:.{digits}f}[/dim]"
                if interval.images < summary.images:
                    text += f"\n{interval.images} of {summary.images} images"
            cells.append(text)
        table.add_row(model, *cells)
    return table


def _best(summary: Summary, column: str, ceiling: str | None) -> str | None:
    better = COLUMNS[column].better
    values = {
        model: value
        for model in summary.intervals
        if model != ceiling and (value := summary.mean(model, column)) is not None
    }
    if better is None or len(values) < 2:
        return None
    return (max if better == "higher" else min)(values, key=values.__getitem__)
