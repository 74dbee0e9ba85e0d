"""`tvqrap-cli average`: the mean of upscalers that were trained from the same model."""

from math import isfinite
from pathlib import Path
from typing import Annotated

import typer

from tvqrap.runtime.errors import UsageError, UserError


def average(
    models: Annotated[list[Path], typer.Argument(help="Model folders of two or more upscalers.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Model folder to write.")],
    parts: Annotated[
        str, typer.Option(help="Relative weight of each model, e.g. 2,1; equal by default.")
    ] = "",
    overwrite: Annotated[bool, typer.Option(help="Replace an existing model.")] = False,
) -> None:
    """Write the mean of upscalers' weights, for example of a smooth and a sharp one."""
    shares = _shares(parts, len(models))
    from tvqrap.convert.average import average_upscalers
    from tvqrap.pretrained.folder import holds_model

    if output.resolve() in [model.resolve() for model in models]:
        raise UserError(f"{output}: is one of the models, expected another folder")
    if holds_model(output) and not overwrite:
        raise UserError(f"{output}: holds a model already; --overwrite replaces it")
    config = average_upscalers(models, shares, output)
    typer.echo(f"{output}: mean of {len(models)} upscalers, fingerprint {config.fingerprint[:16]}")


def _shares(parts: str, models: int) -> list[float]:
    if models < 2:
        raise UsageError(f"MODELS: found {models}, expected two or more")
    try:
        shares = [float(part) for part in parts.split(",")] if parts else [1.0] * models
    except ValueError:
        raise UsageError(f"--parts: found {parts!r}, expected numbers such as 2,1") from None
    if len(shares) != models or not all(isfinite(share) for share in shares) or not sum(shares):
        raise UsageError(
            f"--parts: found {parts!r}, expected {models} numbers with a sum other than 0"
        )
    return shares
