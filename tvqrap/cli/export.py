"""`tvqrap-cli export`: a trained upscaler for programs without PyTorch."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from tvqrap.cli.checkout import default_model
from tvqrap.cli.options import Model
from tvqrap.cli.output_paths import check_overwrite
from tvqrap.pretrained.packaged import model_path
from tvqrap.runtime.errors import UsageError, UserError

if TYPE_CHECKING:
    from tvqrap.convert.onnx import Dtype


def export(
    output: Annotated[
        Path, typer.Option("-o", "--output", help="File to write: NAME.onnx or NAME.safetensors.")
    ],
    model: Model = None,
    format_name: Annotated[str, typer.Option("--format", help="onnx or safetensors.")] = "onnx",
    dtype: Annotated[
        str, typer.Option(help="float32 or float16; in ONNX also of the arithmetic.")
    ] = "float32",
    signed: Annotated[
        bool, typer.Option("--signed", help="ONNX takes and gives values from -1 to 1, not 0 to 1.")
    ] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing file.")] = False,
) -> None:
    """Write an upscaler as one file for other programs: ONNX, or safetensors for spandrel.

    ONNX takes images of any size, (count, 3, height, width), RGB from 0 to 1. It needs the extra
    `export`. `tvqrap.spandrel` makes spandrel read the safetensors file.
    """
    if format_name not in ("onnx", "safetensors"):
        raise UsageError(f"--format: found {format_name!r}, expected onnx or safetensors")
    if dtype not in ("float32", "float16"):
        raise UsageError(f"--dtype: found {dtype!r}, expected float32 or float16")
    if signed and format_name != "onnx":
        raise UsageError(f"--signed has no meaning for {format_name}, expected --format onnx")
    if output.suffix.lower() != f".{format_name}":
        raise UsageError(f"{output}: expected a name that ends in .{format_name}")
    check_overwrite(output, overwrite)
    folder = default_model("rap") if model is None else model_path(str(model))

    import torch

    from tvqrap.convert.onnx import export_onnx
    from tvqrap.pretrained.single_file import write_single_file

    try:
        if format_name == "onnx":
            export_onnx(folder, output, signed=signed, dtype=cast("Dtype", dtype))
        else:
            write_single_file(folder, output, getattr(torch, dtype))
    except OSError as error:
        raise UserError(f"{output}: cannot be written ({error})") from None
    typer.echo(f"{output}: {output.stat().st_size / 1e6:.1f} MB, from {folder}")
