"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[
    Path | None,
    typer.Option(
        help="Model folder, or package:degraded; if not given, models/rap of a checkout, or else "
        "package:rap."
    ),
]
Rounds = Annotated[
    int, typer.Option(min=1, help="Timed runs of each network, after one that is not timed.")
]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Arithmetic threads; by default torch's choice.")
]
Device = Annotated[
    str,
    typer.Option(
        help="auto, cpu, cuda, cuda:1, mps or xpu. auto: the first of CUDA, MPS and XPU that "
        "torch finds, else the CPU."
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing outputs.")]
