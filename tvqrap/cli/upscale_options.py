"""Options of `tvqrap-cli upscale`."""

from pathlib import Path
from typing import Annotated

import typer

Photos = Annotated[
    list[Path],
    typer.Argument(metavar="PHOTO", help="Images, folders or globs; - for standard input."),
]
OutputName = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--output",
        help="A file for one photograph, or a folder, which is made; - for standard output. If "
        "not given, outputs are beside their photographs, with a suffix.",
    ),
]
AnyModel = Annotated[
    str | None,
    typer.Option(
        help="Model folder, file of ours or one that spandrel reads (.pth, .safetensors), "
        "hf:user/model on the Hugging Face Hub, or package:degraded, the package's for noise and "
        "compression; if not given, models/rap of a checkout, or else package:rap."
    ),
]
Scale = Annotated[
    float | None,
    typer.Option(
        help="Factor of width and height, 4 if not given; others are resampled from 4 times."
    ),
]
Size = Annotated[
    str | None,
    typer.Option(
        metavar="WxH", help="Largest size that fits into WxH, in place of --scale, as 3840x2160."
    ),
]
Suffix = Annotated[
    str | None,
    typer.Option(
        help="Follows the name of each photograph in a folder: _x4 makes a_x4.jpg of a.jpg. Empty "
        "if not given; beside photographs _x4, or the scale or size that is asked for."
    ),
]
FormatName = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="png, jpeg, webp, tiff or avif; if not given, the output's ending decides, or else "
        "the photograph's format, or else png.",
    ),
]
Quality = Annotated[
    int | None,
    typer.Option(help="Quality of jpeg, webp and avif, 1 to 100; 95 if not given."),
]
Lossless = Annotated[bool, typer.Option("--lossless", help="Keep every pixel in webp.")]
Compression = Annotated[
    int | None,
    typer.Option(help="Effort of compression, 0 to 9: of png 6, of tiff 0 (none) if not given."),
]
ColourChoice = Annotated[
    str, typer.Option("--colour", help="keep the model's colours, or match the photograph's.")
]
PrecisionChoice = Annotated[str, typer.Option("--precision", help="float32 or bfloat16.")]
Tile = Annotated[
    int | None,
    typer.Option(help="Side of tiles in LR pixels; nothing larger is upscaled whole then."),
]
MaxPixels = Annotated[
    int,
    typer.Option(
        min=1, help="Pixels of the largest photograph that is read, or of all its frames."
    ),
]
FramesChoice = Annotated[
    str,
    typer.Option(
        "--frames",
        help="Of animations (GIF, APNG, WebP, AVIF) and TIFFs of several pages: first, or all.",
    ),
]
Recursive = Annotated[
    bool, typer.Option("--recursive/--no-recursive", help="Search folders inside of folders.")
]
FollowLinks = Annotated[
    bool, typer.Option("--follow-links", help="Follow links that lead out of a folder.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="List what would be done, and do nothing.")]
Watch = Annotated[
    bool,
    typer.Option(
        "--watch", help="Go on: upscale photographs as they appear in the folders, until Ctrl-C."
    ),
]
