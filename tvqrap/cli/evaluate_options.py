"""Options of `tvqrap-cli evaluate`."""

from pathlib import Path
from typing import Annotated

import typer

Models = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="MODEL",
        help="Model folders, `bicubic`, `lanczos`, files of upscalers that spandrel knows "
        "(.pth, .safetensors), or folders of finished images; NAME=MODEL gives a name.",
    ),
]
Results = Annotated[
    Path | None,
    typer.Option(
        "-o", "--output", help="Folder for the results; with --compare, a JSON file to write."
    ),
]
Gt = Annotated[Path | None, typer.Option(help="Folder of HR images.")]
Lq = Annotated[
    Path | None,
    typer.Option(help="Folder of LR images of the same names; alone: no-reference metrics."),
]
Pairs = Annotated[Path | None, typer.Option(help="Folder of pair shards.")]
Realsr = Annotated[
    Path | None, typer.Option(help="RealSR V3 as released, or a folder of its images.")
]
MetricList = Annotated[
    str, typer.Option(help="Metrics, separated by commas; `tvqrap-cli metrics` lists them.")
]
Weights = Annotated[
    Path | None,
    typer.Option(help="Folder with the metrics' weights, instead of the usual folders."),
]
Tile = Annotated[
    int, typer.Option(help="LR images with more pixels than a tile of this side are tiled.")
]
Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Images that are scored at once; one per core by default."),
]
Compare = Annotated[
    tuple[Path, Path] | None,
    typer.Option(help="Two results (scores.json) to compare, instead of models."),
]
