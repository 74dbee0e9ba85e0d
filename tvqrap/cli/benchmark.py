"""`tvqrap-cli benchmark`: the cost of upscaling with several networks."""

import json
import os
import platform
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tvqrap.cli.options import Device, Rounds, Threads
from tvqrap.cli.output_paths import check_overwrite
from tvqrap.runtime.errors import UsageError

if TYPE_CHECKING:
    from tvqrap.cost.benchmark import Measured

DEFAULT = ("package", "paper", "rrdb", "swinir", "dat", "hat")
SIDES = "64,128"


def benchmark(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL...",
            help="Model folders, files that spandrel knows, or names of networks: package (the "
            "packaged model) and the untrained paper (ours), rrdb, swinir, dat and hat. By default "
            "all names.",
        ),
    ] = None,
    sides: Annotated[str, typer.Option(help="Sides of square LR images.")] = SIDES,
    rounds: Rounds = 5,
    threads: Threads = None,
    device: Device = "auto",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Also write the numbers as JSON.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing file.")] = False,
) -> None:
    """Measure milliseconds, parameters, arithmetic and peak memory of upscaling one image.

    Prints a Markdown table. The networks take turns; times are medians of the rounds.
    """
    if not all(part.strip().isdecimal() and int(part) >= 1 for part in sides.split(",")):
        raise UsageError(f"--sides: found {sides!r}, expected numbers separated by commas")
    import torch

    from tvqrap.cost.benchmark import measure
    from tvqrap.pretrained.packaged import UPSCALER, model_path
    from tvqrap.runtime.device import select_device
    from tvqrap.runtime.memory import keep_freed_memory
    from tvqrap.runtime.progress import progress

    if output is not None:
        check_overwrite(output, overwrite)
    chosen = str(select_device(device, "--device"))
    if threads is not None:
        torch.set_num_threads(threads)
    keep_freed_memory()
    given = list(dict.fromkeys(models or DEFAULT))
    lengths = [int(part) for part in sides.split(",")]
    names = {str(UPSCALER if name == "package" else model_path(name)): name for name in given}
    total = len(names) * len(lengths) * (rounds + 2)
    with progress("benchmark", total=total, unit="run") as advance:
        found = measure(list(names), lengths, rounds=rounds, device=chosen, advance=advance)
    for line in markdown_lines(found, names, rounds, chosen):
        typer.echo(line)
    for note in found.notes:
        typer.echo(f"note: {note}", err=True)
    if output is not None:
        from tvqrap.runtime.atomic import write_atomic

        write_atomic(output, json.dumps(asdict(found), indent=2) + "\n")


def markdown_lines(found: "Measured", names: dict[str, str], rounds: int, device: str) -> list[str]:
    """The lines of a Markdown table of the costs, with the shown name of each measured model."""
    cpu = device == "cpu"
    lines = [
        f"| | LR | ms |{' ms of a core |' if cpu else ''} parameters | GFLOP | peak memory "
        f"| share of the {'core' if cpu else 'machine'} |",
        f"|---|---|---|{'---|' if cpu else ''}---|---|---|---|",
    ]
    for cost in found.costs:
        core, peak = cost.processor_milliseconds, cost.peak_bytes
        memory = "–" if peak is None else f"{peak / 2**20:.0f} MiB"
        lines.append(
            f"| {names[cost.model]} | {cost.side}x{cost.side} | {cost.milliseconds:.0f} "
            + (f"| {core:.0f} " if core is not None else "")
            + f"| {cost.parameters / 1e6:.1f} M | {cost.operations / 1e9:.1f} "
            f"| {memory} | {100 * cost.share:.0f} % |"
        )
    rate = f"{found.operations_per_second / 1e9:.0f} GFLOP/s measured{' of a core' if cpu else ''}"
    end = f"median of {rounds}, load {os.getloadavg()[0]:.1f}"
    return [*lines, "", f"{_machine(device)}, {rate}, {end}"]


def _machine(device: str) -> str:
    import torch

    from tvqrap.runtime.hardware import device_name

    if device != "cpu":
        return f"{device_name(device)}, torch {torch.__version__}"
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        pass  # elsewhere than on Linux
    return f"{model}, {torch.get_num_threads()} threads, torch {torch.__version__}"
