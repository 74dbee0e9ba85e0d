"""`tvqrap-cli tokens plan`: the samples, bytes and hours of an extraction."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tvqrap.cli.shard_sets import Json, print_json

if TYPE_CHECKING:
    from pipeline.inspection.estimates import Estimate


def plan(
    source: Annotated[
        str,
        typer.Argument(help="A manifest, a set of pairs, a folder of sets or of photographs."),
    ],
    workers: Annotated[
        list[int] | None, typer.Option(min=1, help="Workers, 1 if not given; may be repeated.")
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(min=0.001, help="Samples per second of one worker; else measured here."),
    ] = None,
    params: Annotated[Path, typer.Option(help="File of parameters: network, tokens.")] = Path(
        "params.yaml"
    ),
    size: Annotated[
        int | None, typer.Option(min=32, help="Side of the HR crops of photographs.")
    ] = None,
    crops: Annotated[
        int | None, typer.Option(min=1, help="Crops of each photograph, 1 if not given.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.0, help="How long to measure.")] = 10.0,
    as_json: Json = False,
) -> None:
    """Estimate the samples, bytes and hours of an extraction.

    The network and the extraction's batch size, threads and device come from the parameters. The
    rate is measured by encoding on this machine, unless given. Workers beyond the number of shards
    do not count. Photographs are counted without being opened.
    """
    from pipeline.inspection.estimates import estimate, measured_rate, workloads
    from pipeline.storage.location import location
    from stages.params import load_params

    settings = load_params(params)
    architecture = settings.architecture
    rates: dict[int, float] = {}
    estimates: list[Estimate] = []
    counts = workers or [1]
    for work in workloads(location(source), size, crops):
        if work.size not in rates:
            rates[work.size] = rate or measured_rate(
                architecture, settings.tokens, work.size, seconds
            )
        rate_here = rates[work.size]
        estimates += [estimate(work, architecture, rate_here, count) for count in counts]
    how = "given" if rate else "measured here"
    if as_json:
        print_json({"rate": how, "plans": [asdict(each) for each in estimates]})
        return
    _print_estimates(estimates, counts, how)


def _print_estimates(estimates: "list[Estimate]", counts: list[int], how: str) -> None:
    """Prints a line for each set and number of workers, then the sums over several sets."""
    for each in estimates:
        typer.echo(
            f"{each.name}: {each.samples:,} samples of {each.size}x{each.size}, {_sizes([each])}; "
            f"{_duration(each.hours)} on {_workers(each.workers)} at {each.rate:.3g} samples/s "
            f"each ({how})"
        )
    if len(estimates) > len(counts):
        for number, count in enumerate(counts):
            sets = estimates[number :: len(counts)]
            typer.echo(
                f"together: {sum(each.samples for each in sets):,} samples, {_sizes(sets)}; "
                f"{_duration(sum(each.hours for each in sets))} on up to {_workers(count)}, one "
                "set after the other"
            )
    if any(each.carried_bytes is None for each in estimates):
        typer.echo("photographs that are too small (data.min_side) or damaged are counted too")


def _workers(workers: int) -> str:
    return f"{workers} worker{'s' if workers > 1 else ''}"


def _sizes(estimates: "list[Estimate]") -> str:
    tokens = f"{_bytes(sum(each.token_bytes for each in estimates))} of tokens"
    carried = [each.carried_bytes for each in estimates if each.carried_bytes is not None]
    return tokens + (f" and {_bytes(sum(carried))} of LR" if carried else "")


def _duration(hours: float) -> str:
    if hours >= 1:
        return f"{hours:.3g} h"
    return f"{hours * 60:.3g} min" if hours * 60 >= 1 else f"{hours * 3600:.3g} s"


def _bytes(count: int) -> str:
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:.3g} {unit}"
