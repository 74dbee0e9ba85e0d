"""`tvqrap-cli export`: a trained upscaler for programs without PyTorch."""

from pathlib import Path
from typing import Annotated

import typer

from tvqrap.cli.checkout import default_model
from tvqrap.cli.output_paths import check_overwrite
from tvqrap.runtime.errors import UsageError, UserError


def export(
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write: NAME.onnx.")],
    model: Annotated[
        Path | None,
        typer.Option(
            help="Model folder; if not given, models/rap of a checkout, or else the package's."
        ),
    ] = None,
    format_name: Annotated[str, typer.Option("--format", help="onnx.")] = "onnx",
    overwrite: Annotated[bool, typer.Option(help="Replace a file that is there.")] = False,
) -> None:
    """Write an upscaler as an ONNX file that takes images of any size.

    In and out: float32 (count, 3, height, width), RGB from -1 to 1. Needs the extra `export`.
    """
    if format_name != "onnx":
        raise UsageError(f"--format: found {format_name!r}, expected onnx")
    if output.suffix.lower() != ".onnx":
        raise UsageError(f"{output}: expected a name that ends in .onnx")
    check_overwrite(output, overwrite)
    folder = model or default_model("rap")

    from tvqrap.convert.onnx import export_onnx

    try:
        export_onnx(folder, output)
    except OSError as error:
        raise UserError(f"{output}: cannot be written ({error})") from None
    typer.echo(f"{output}: {output.stat().st_size / 1e6:.1f} MB, from {folder}")
