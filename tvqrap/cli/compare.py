"""`tvqrap-cli evaluate --compare`: the differences of two results."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from tvqrap.cli.output_paths import check_overwrite
from tvqrap.runtime.text import printable

if TYPE_CHECKING:
    from tvqrap.comparison.results import Compared


def compare_results(first: Path, second: Path, output: Path | None, overwrite: bool) -> None:
    """Prints the differences of two results, and writes them as JSON where `output` is given.

    Raises UserError where `output` is a folder, or an existing file without `overwrite`.
    """
    from rich.console import Console

    from tvqrap.comparison.result_files import read_result
    from tvqrap.comparison.results import compare

    if output is not None:
        check_overwrite(output, overwrite)
    compared = compare(read_result(first), read_result(second))
    for line in compared.notes:
        typer.echo(printable(line), err=True)
    console = Console()
    typer.echo(
        f"B minus A, {compared.images} images; verdicts are corrected for the number of metrics"
    )
    for model in dict.fromkeys(entry.model for entry in compared.entries):
        console.print(_table(compared, model))
    if output is not None:
        from tvqrap.runtime.atomic import write_atomic

        write_atomic(output, json.dumps(asdict(compared), indent=2) + "\n")


def _table(compared: "Compared", model: str) -> Any:
    """The differences of one model, in at most 80 characters."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from tvqrap.evaluation.summary import COLUMNS

    table = Table(title=escape(printable(model)), title_justify="left", box=box.SIMPLE_HEAD)
    for title in ("metric", "A", "B", "difference", "B is"):
        table.add_column(title, justify="left" if title == "metric" else "right", no_wrap=True)
    for entry in compared.entries:
        if entry.model != model:
            continue
        column = COLUMNS[entry.metric]
        digits = column.digits
        difference = entry.second - entry.first
        ends = None
        if entry.difference is not None:
            difference = entry.difference.mean
            ends = entry.difference.shown(digits, " ", "+")
        table.add_row(
            f"{column.title} {'↑' if column.better == 'higher' else '↓'}",
            f"{entry.first:.{digits}f}",
            f"{entry.second:.{digits}f}",
            f"{difference:+.{digits}f}" + (f" ({ends})" if ends else ""),
            entry.verdict or "of the set",
        )
    return table
