"""`tvqrap-cli decompose`: what a tokenizer keeps of a photograph in structure and in codes."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from tvqrap.cli.checkout import default_model
from tvqrap.runtime.errors import UsageError, UserError

if TYPE_CHECKING:
    from tvqrap.decomposition import Decomposition

MAX_SIDE = 1024
"""The paper's network takes 2.3 kB of memory a pixel: 2.4 GB for a square of this side."""

PICTURES = ("input", "both", "structure", "texture", "codes", "sheet")


def decompose(
    photo: Annotated[Path, typer.Argument(help="An image; it is taken as HR.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the pictures.")],
    model: Annotated[
        Path | None,
        typer.Option(
            help="Tokenizer's folder; a checkout's own run or the package's if not given."
        ),
    ] = None,
    max_side: Annotated[
        int,
        typer.Option(
            min=32, help="A photograph with a longer side than this is reduced to it first."
        ),
    ] = MAX_SIDE,
    overwrite: Annotated[bool, typer.Option(help="Replace pictures that are there.")] = False,
) -> None:
    """Write what structure, codes and both keep of a photograph, and a map of the codes.

    As in Figure 9 of the paper: structure.png is decoded from the structure alone, texture.png
    from the codes alone, both.png from both; sheet.png shows them side by side.
    """
    _check_overwrite(photo, output, overwrite)
    folder = model or default_model("tokenizer")

    from tvqrap.decomposition import decompose as take_apart
    from tvqrap.decomposition import reduce_to
    from tvqrap.images.open import read_image
    from tvqrap.pretrained.folder import load_tokenizer

    tokenizer = load_tokenizer(folder)
    whole = read_image(photo)
    image = reduce_to(whole, max_side)
    try:
        parts = take_apart(tokenizer, image)
    except ValueError as error:
        raise UserError(f"{folder}: with {photo}: {error}") from None
    except RuntimeError as error:
        if "allocate" not in str(error):  # torch's words where memory runs out
            raise
        raise UserError(
            f"{photo}: {image.width}x{image.height} takes more memory than there is, "
            f"--max-side {max_side} can be lowered"
        ) from None
    _write(output, photo.name, parts)
    if image.size != whole.size:
        typer.echo(
            f"{photo}: reduced from {whole.width}x{whole.height} to {image.width}x{image.height} "
            f"(--max-side {max_side})"
        )
    typer.echo(f"{output}: {_summary(parts)}")


def _write(output: Path, name: str, parts: "Decomposition") -> None:
    """All pictures, or none: they are written aside first."""
    from tvqrap.evaluation.report.contact_sheet import SheetRow, contact_sheet
    from tvqrap.images.save import save_png

    pictures = parts.pictures
    sheet = contact_sheet(list(pictures), [SheetRow(name, list(pictures.values()))])
    try:
        output.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".", dir=output) as aside:
            save_png(Path(aside) / "sheet.png", sheet)
            for title, picture in pictures.items():
                save_png(Path(aside) / f"{title}.png", picture)
            for title in PICTURES:
                made = Path(aside) / f"{title}.png"
                if made.exists():
                    made.replace(output / made.name)
                else:  # of a tokenizer with a structure branch, from an earlier call
                    (output / made.name).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{output}: cannot be written ({error})") from None


def _summary(parts: "Decomposition") -> str:
    used = f"{round(parts.use.usage * parts.codebook)} of {parts.codebook} codes"
    use = f"{used}, perplexity {parts.use.perplexity:.1f}"
    texture = f"{parts.psnr(parts.texture):.2f} dB"
    if parts.both is None or parts.structure is None or parts.structure_share is None:
        return f"{use}, no structure branch: PSNR {texture} from the codes, all there is"
    return (
        f"{use}, structure share {parts.structure_share:.0%}, "
        f"PSNR {parts.psnr(parts.both):.2f} dB "
        f"(structure alone {parts.psnr(parts.structure):.2f} dB, codes alone {texture})"
    )


def _check_overwrite(photo: Path, output: Path, overwrite: bool) -> None:
    if output.exists() and not output.is_dir():
        raise UsageError(f"{output}: is a file, expected a folder for the pictures")
    for title in PICTURES:
        path = output / f"{title}.png"
        if path.resolve() == photo.resolve():
            raise UserError(f"{path}: would be written over, and is the input")
        if path.exists() and not overwrite:
            raise UserError(f"{path}: exists already; --overwrite replaces it")
