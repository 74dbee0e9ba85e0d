"""`tvqrap-cli convert`: stores a model's weights in another number format."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tvqrap.runtime.errors import UserError


class Dtype(StrEnum):
    """Number formats of stored weights."""

    FLOAT16 = "float16"
    FLOAT32 = "float32"


def convert(
    model: Annotated[Path, typer.Argument(help="Model folder of a tokenizer or an upscaler.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Model folder to write.")],
    dtype: Annotated[
        Dtype,
        typer.Option(help="Number format of the weights; float16 takes half of float32's bytes."),
    ],
    overwrite: Annotated[bool, typer.Option(help="Replace an existing model.")] = False,
) -> None:
    """Store a model's weights in another number format."""
    from tvqrap.convert.precision import convert_model
    from tvqrap.pretrained.folder import WEIGHTS, holds_model

    if output.resolve() == model.resolve():
        raise UserError(f"{output}: is the model itself, expected another folder")
    if holds_model(output) and not overwrite:
        raise UserError(f"{output}: holds a model already; --overwrite replaces it")
    config = convert_model(model, output, dtype.value)
    megabytes = (output / WEIGHTS).stat().st_size / 1e6
    typer.echo(
        f"{output}: {config.kind} in {dtype}, {megabytes:.1f} MB, "
        f"fingerprint {config.fingerprint[:16]}"
    )
