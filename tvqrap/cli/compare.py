"""`tvqrap-cli evaluate --compare`: two results side by side."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from tvqrap.evaluation.compared_results import Compared


def compare_results(first: Path, second: Path, output: Path | None) -> None:
    """Prints what differs between two results, and writes it as JSON where `output` is given."""
    from rich.console import Console

    from tvqrap.evaluation.compared_results import compare, read_result

    a, b = read_result(first), read_result(second)
    compared = compare(a, b)
    for line in compared.notes:
        typer.echo(line, err=True)
    Console().print(_table(compared))
    if output is not None:
        from tvqrap.files import write_whole

        write_whole(output, json.dumps(asdict(compared), indent=2) + "\n")


def _table(compared: "Compared") -> Any:
    from rich import box
    from rich.table import Table

    from tvqrap.evaluation.scores import COLUMNS

    table = Table(title=f"B minus A, {compared.images} images", box=box.SIMPLE_HEAD)
    for title in ("model", "metric", "A", "B", "difference", "B is"):
        table.add_column(title, justify="left" if title in ("model", "metric") else "right")
    before = ""
    for entry in compared.entries:
        column = COLUMNS[entry.metric]
        digits = column.digits
        arrow = "↑" if column.better == "higher" else "↓"
        interval = entry.difference
        table.add_row(
            "" if entry.model == before else entry.model,
            f"{column.title} {arrow}",
            f"{entry.first:.{digits}f}",
            f"{entry.second:.{digits}f}",
            f"{interval.mean:+.{digits}f} ({interval.low:+.{digits}f} {interval.high:+.{digits}f})",
            entry.verdict,
        )
        before = entry.model
    return table
