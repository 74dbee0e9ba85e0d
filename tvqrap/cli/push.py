"""`tvqrap-cli push`: uploads a model to the Hugging Face Hub."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from tvqrap.cli.card import Licence, check_licence
from tvqrap.runtime.errors import UsageError, UserError


def push(
    folder: Annotated[Path, typer.Argument(help="Model folder of an upscaler.")],
    name: Annotated[str, typer.Argument(help="Repository on the hub: user/model.")],
    licence: Licence = None,
    private: Annotated[
        bool, typer.Option("--private", help="Only you see the repository, if it is a new one.")
    ] = False,
) -> None:
    """Upload an upscaler to the Hugging Face Hub. Needs the extra `hub` and an access token.

    The README.md of the folder is the model card. A folder without one gets the card that
    `tvqrap-cli card` makes, unless the repository has a card.
    """
    check_licence(licence)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise UsageError(f"{name}: expected a repository on the hub, user/model")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder, expected a model folder")

    from tvqrap.model_card import model_card
    from tvqrap.pretrained.folder import CONFIG, README, WEIGHTS, read_readme
    from tvqrap.pretrained.hub import upload
    from tvqrap.pretrained.single_file import write_described
    from tvqrap.pretrained.upscaler import load_upscaler

    load_upscaler(folder)  # checks all of it
    readme = read_readme(folder)
    if readme is not None and licence is not None:
        raise UsageError(f"--license: {folder / README} is the card, expected the licence there")
    with TemporaryDirectory() as temporary:
        weights = Path(temporary) / WEIGHTS
        write_described(folder, weights)
        card = model_card(folder, name, licence) if readme is None else readme
        files: dict[str, bytes | Path] = {
            README: card.encode(),
            CONFIG: folder / CONFIG,
            WEIGHTS: weights,
        }
        kept = {README} if readme is None else set[str]()
        typer.echo(upload(name, files, private=private, kept=kept))
