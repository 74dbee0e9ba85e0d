"""The scores as a table on the terminal."""

from collections.abc import Sequence

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from tvqrap.evaluation.summary import COLUMNS, Summary

_GAP = 3
"""Characters between columns: two blanks and one of the box."""
_NAME = 12
"""Least width of a model's name before it is wrapped."""


class ScoreTable:
    """The scores, for rich to print: a line per metric and a column per model.

    Models that do not fit side by side are in further tables below, so that no number is broken.
    Intervals are under the means. The best of each line is bold and has a star. `ceiling` names a
    model that is shown but not compared (the tokenizer, an upper bound that sees HR).
    """

    def __init__(self, summary: Summary, title: str, ceiling: str | None = None) -> None:
        self.summary = summary
        self.title = title
        self.ceiling = ceiling

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Group(*self._tables(options.max_width))

    def _tables(self, width: int) -> list[Table | Text]:
        summary = self.summary
        labels = [_label(column) for column in summary.columns]
        best = {column: best_of(summary, column, self.ceiling) for column in summary.columns}
        cells = {
            model: [_cell(summary, model, c, model == best[c]) for c in summary.columns]
            for model in summary.intervals
        }
        widths = {model: _width(model, found) for model, found in cells.items()}
        room = width - max(map(len, labels), default=0)
        tables: list[Table | Text] = []
        for models in _groups(widths, room):
            title = escape(self.title) if not tables else None
            table = Table(
                title=title, box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False, pad_edge=False
            )
            table.add_column("", no_wrap=True)
            for model in models:
                table.add_column(
                    escape(model), justify="right", overflow="fold", min_width=widths[model]
                )
            for index, label in enumerate(labels):
                table.add_row(label, *(cells[model][index] for model in models))
            tables.append(table)
        if summary.caution:
            tables.append(Text(summary.caution, style="italic"))
        return tables


def score_table(summary: Summary, title: str, ceiling: str | None = None) -> ScoreTable:
    """The scores as a table; see `ScoreTable`."""
    return ScoreTable(summary, title, ceiling)


def _label(column: str) -> str:
    arrow = {"higher": " ↑", "lower": " ↓", None: ""}[COLUMNS[column].better]
    return COLUMNS[column].title + arrow


def _width(model: str, cells: Sequence[str]) -> int:
    """Width of a model's column: that of its longest number or of its wrapped name."""
    lines = [line for cell in cells for line in Text.from_markup(cell).plain.splitlines()]
    return max([min(len(model), _NAME), *map(len, lines)])


def _groups(widths: dict[str, int], room: int) -> list[list[str]]:
    """Groups of models that fit side by side, in their order; at least one in each group."""
    groups: list[list[str]] = [[]]
    left = room
    for model, width in widths.items():
        if groups[-1] and width + _GAP > left:
            groups.append([])
            left = room
        groups[-1].append(model)
        left -= width + _GAP
    return groups


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
    """The model with the best mean in a column; None where fewer than two can be compared.

    A model without a score of every image is not compared, as its mean is over other images.
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
