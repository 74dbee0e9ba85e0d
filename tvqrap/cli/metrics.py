"""`tvqrap-cli metrics`: the usable metrics, and download of their weights."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tvqrap.runtime.errors import UsageError, UserError

if TYPE_CHECKING:
    from tvqrap.config.evaluation import MetricName


def metrics(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="METRIC...", help="By default all.")
    ] = None,
    fetch: Annotated[bool, typer.Option("--fetch", help="Download missing weights.")] = False,
    weights: Annotated[
        Path | None,
        typer.Option(help="Folder to search for weights and to download to."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List the metrics, whether they can be used here, and the reasons why not."""
    from tvqrap.evaluation.metrics.pyiqa import unusable
    from tvqrap.evaluation.metrics.registry import METRICS
    from tvqrap.evaluation.metrics.weights import fetch_weights

    for name in names or ():
        if name not in METRICS:
            raise UsageError(f"{name!r} is not known, expected {', '.join(METRICS)}")
    chosen: list[MetricName] = [name for name in METRICS if not names or name in names]
    failed = []
    if fetch:
        for name in chosen:
            try:
                for path in fetch_weights(name, weights):
                    typer.echo(f"{path}: downloaded for {name}", err=True)
            except UserError as error:
                failed.append(f"{name}: {error}")
    problems = {name: unusable(name, weights) for name in chosen}
    if as_json:
        document = {
            name: {"title": METRICS[name].title, "usable": problem is None, "reason": problem}
            for name, problem in problems.items()
        }
        typer.echo(json.dumps(document, indent=1))
    else:
        _print(problems, weights)
    if failed:
        raise UserError(f"{failed[0]} ({len(failed)} metrics could not be fetched)")


def _print(problems: "dict[MetricName, str | None]", weights: Path | None) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from tvqrap.evaluation.metrics.registry import METRICS
    from tvqrap.evaluation.metrics.weights import folders

    table = Table(box=box.SIMPLE_HEAD)
    for title in ("metric", "title", "better", "compares with"):
        table.add_column(title, no_wrap=True)
    table.add_column("here", overflow="fold")
    for name, problem in problems.items():
        metric = METRICS[name]
        needs = "HR, the set" if metric.of_set else "HR" if metric.reference else "nothing"
        # The reasons hold paths, which are too long for a column.
        state = "usable" if problem is None else "not usable"
        table.add_row(name, metric.title, metric.better, needs, state)
    Console().print(table)
    for name, problem in problems.items():
        if problem is not None:
            typer.echo(f"{name}: {problem.partition(', not found')[0].partition('; ')[0]}")
    lacking = [n for n, problem in problems.items() if problem is not None and "needs" in problem]
    if lacking:
        places = ", ".join(str(folder) for folder in folders(weights))
        typer.echo(f"Not found in {places}.")
        typer.echo(f"tvqrap-cli metrics --fetch {' '.join(lacking)}: downloads the weights")
