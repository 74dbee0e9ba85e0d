"""`tvqrap-cli card`: describes a model for the hub, or for OpenModelDB."""

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from tvqrap.cli.output_paths import check_overwrite
from tvqrap.runtime.errors import UsageError

Licence = Annotated[
    str | None,
    typer.Option(
        "--license",
        help="Licence of the weights: the hub's name, such as apache-2.0, or for OpenModelDB the "
        "SPDX identifier, such as Apache-2.0.",
    ),
]


def check_licence(licence: str | None) -> None:
    """Raises UsageError for a text that cannot be the identifier of a licence."""
    if licence is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*", licence):
        raise UsageError(f"--license is {licence!r}, expected an identifier, as apache-2.0")


def card(
    model: Annotated[
        Path,
        typer.Argument(
            help="Model folder; for --openmodeldb a file that export --format safetensors writes."
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File to write, instead of printing.")
    ] = None,
    licence: Licence = None,
    openmodeldb: Annotated[
        bool, typer.Option("--openmodeldb", help="Make an entry of OpenModelDB, as JSON.")
    ] = False,
    name: Annotated[
        str | None,
        typer.Option(
            help="Title: user/model on the hub, or the name in OpenModelDB (the file's, if not "
            "given)."
        ),
    ] = None,
    author: Annotated[
        str | None, typer.Option(help="Author's name in OpenModelDB: letters, digits, hyphens.")
    ] = None,
    url: Annotated[
        list[str] | None,
        typer.Option(help="Address of the file, for OpenModelDB; may be given repeatedly."),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing file.")] = False,
) -> None:
    """Write a model card: properties, use, training, and scores where the folder holds them.

    Scores are those of the metrics.json of `evaluate`.
    """
    check_licence(licence)
    if openmodeldb:
        _check_entry(author, url)
    elif author is not None or url:
        raise UsageError("--author and --url have no meaning without --openmodeldb")
    if output is not None:
        check_overwrite(output, overwrite)

    from tvqrap.model_card import model_card, open_model_db_entry
    from tvqrap.runtime.atomic import write_atomic

    if openmodeldb:
        entry = open_model_db_entry(
            model, name=name or model.stem, author=author or "", licence=licence, urls=url or ()
        )
        text = json.dumps(entry, indent=4) + "\n"
    else:
        text = model_card(model, name, licence)
    if output is None:
        typer.echo(text.encode(), nl=False)  # UTF-8, whatever the terminal's encoding
    else:
        write_atomic(output, text)


def _check_entry(author: str | None, url: list[str] | None) -> None:
    """Raises UsageError where an entry of OpenModelDB could not have this author or addresses."""
    if author is None or not re.fullmatch(r"[a-zA-Z0-9]+(-[a-zA-Z0-9]+)*", author):
        raise UsageError(
            f"--author is {author!r}, expected letters, digits and hyphens with --openmodeldb"
        )
    if not url or not all(re.match(r"https?://\S+$", each) for each in url):
        raise UsageError("--url: expected the address of the file with --openmodeldb")
