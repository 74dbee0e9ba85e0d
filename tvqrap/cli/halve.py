"""`tvqrap-cli halve`: a model folder at half its size, to hand on."""

from pathlib import Path
from typing import Annotated

import typer

from tvqrap.runtime.errors import UserError


def halve(
    model: Annotated[Path, typer.Argument(help="Model folder, of a tokenizer or an upscaler.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Model folder to write.")],
    overwrite: Annotated[bool, typer.Option(help="Replace a model that is there.")] = False,
) -> None:
    """Store a model's weights as float16, as those in the package are."""
    from tvqrap.convert.precision import halve_model
    from tvqrap.pretrained.folder import WEIGHTS, holds_model

    if output.resolve() == model.resolve():
        raise UserError(f"{output}: is the model itself, expected another folder")
    if holds_model(output) and not overwrite:
        raise UserError(f"{output}: holds a model already; --overwrite replaces it")
    card = halve_model(model, output)
    megabytes = (output / WEIGHTS).stat().st_size / 1e6
    typer.echo(f"{output}: {card.kind} of {megabytes:.1f} MB, fingerprint {card.fingerprint[:16]}")
