"""`tvqrap-cli import`: the authors' published checkpoints become model folders."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tvqrap.cli.output_paths import check_folder_overwrite
from tvqrap.runtime.errors import UsageError, UserError
from tvqrap.runtime.text import printable

if TYPE_CHECKING:
    from tvqrap.convert.published import PublishedCheckpoint
    from tvqrap.pretrained.folder import Kind

_NAMED = 3
"""Number of tensors of each part that are named without --verbose."""
_WITH_ARTICLE = {"tokenizer": "a tokenizer", "upscaler": "an upscaler"}


def import_checkpoint(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT", help="A published file (.pth or safetensors) of stage 1, 2 or 3."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", help="Model folder to write: a tokenizer (stage 1) or an upscaler."
        ),
    ],
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Model folder to write for the tokenizer of a stage-2 or stage-3 file.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace existing models.")] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            help="Name every tensor that is left out instead of the first few of each part."
        ),
    ] = False,
) -> None:
    """Turn a checkpoint that the authors published into a model folder.

    Names and shapes of all tensors must be those of the paper's network; code in the file never
    runs.
    """
    folders = [output] if tokenizer is None else [output, tokenizer]
    if tokenizer is not None and tokenizer.resolve() == output.resolve():
        raise UsageError(f"--tokenizer: {tokenizer} is the folder of --output, expected another")

    from tvqrap.convert.published import read_published
    from tvqrap.pretrained.folder import CONFIG, WEIGHTS

    for folder in folders:
        check_folder_overwrite(folder, (CONFIG, WEIGHTS), "a model", overwrite)
    published = read_published(checkpoint)
    if tokenizer is not None and published.upscaler is None:
        raise UsageError(
            f"--tokenizer: {checkpoint} is a stage-1 file, whose tokenizer goes to --output"
        )
    _write(output, published.kind, published, verbose)
    if tokenizer is not None:
        _write(tokenizer, "tokenizer", published, verbose)
    elif published.upscaler is not None:
        typer.echo("  --tokenizer DIR also writes the tokenizer, which extracts tokens")
    count = len(published.computed)
    if count:
        _name(
            f"{count} tensors that the networks compute, found equal", published.computed, verbose
        )
    if published.others:
        typer.echo(f"other entries of the file, not read: {', '.join(published.others)}")


def _write(folder: Path, kind: "Kind", published: "PublishedCheckpoint", verbose: bool) -> None:
    from tvqrap.convert.published import save_published

    try:
        config = save_published(folder, kind, published)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error})") from None
    typer.echo(
        f"{folder}: {kind} with {config.architecture.codebook} codes, from "
        f"{published.entry + ' of ' if published.entry else ''}{printable(published.file)}, "
        f"fingerprint {config.fingerprint[:12]}"
    )
    for part, names in published.names_left_out(kind).items():
        _name(f"  left out, not part of {_WITH_ARTICLE[kind]}: {part} {len(names)}", names, verbose)


def _name(title: str, names: Sequence[str], verbose: bool) -> None:
    if verbose:
        typer.echo("\n    ".join([f"{title}:", *names]))
    else:
        shown = ", ".join(names[:_NAMED])
        typer.echo(f"{title}: {shown}{', ...' if len(names) > _NAMED else ''}")
