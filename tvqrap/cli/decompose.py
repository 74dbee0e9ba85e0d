"""`tvqrap-cli decompose`: a photograph reconstructed from its structure and its codes."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from tvqrap.cli.checkout import default_model
from tvqrap.cli.output_paths import check_folder_overwrite
from tvqrap.runtime.errors import UserError

if TYPE_CHECKING:
    from tvqrap.decomposition import Decomposition

MAX_SIDE = 1024
"""The paper's network takes 2.3 kB of memory per pixel: 2.4 GB at this width and height."""

PICTURES = ("input", "both", "structure", "texture", "codes", "sheet")


def decompose(
    photo: Annotated[Path, typer.Argument(help="An image, taken as HR.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the pictures.")],
    model: Annotated[
        Path | None,
        typer.Option(
            help="Model folder of a tokenizer; by default the checkout's own or the package's."
        ),
    ] = None,
    max_side: Annotated[
        int,
        typer.Option(min=32, help="Photographs with a longer side are reduced to this side first."),
    ] = MAX_SIDE,
    overwrite: Annotated[bool, typer.Option(help="Replace existing pictures.")] = False,
) -> None:
    """Reconstruct a photograph from its structure, its codes and both, and map the codes.

    Figure 9 of the paper: structure.png is decoded from the structure alone, texture.png from the
    codes alone, both.png from both; sheet.png shows all pictures side by side.
    """
    names = [f"{title}.png" for title in PICTURES]
    if any((output / name).resolve() == photo.resolve() for name in names):
        raise UserError(f"{photo}: is the input and would be overwritten, expected another folder")
    check_folder_overwrite(output, names, "a decomposition", overwrite)
    folder = model or default_model("tokenizer")

    from tvqrap.decomposition import decompose as decompose_photo
    from tvqrap.decomposition import reduce_to
    from tvqrap.images.reading.open import read_image
    from tvqrap.pretrained.folder import load_tokenizer
    from tvqrap.runtime.cores import use_idle_cores

    use_idle_cores()
    tokenizer = load_tokenizer(folder)
    whole = read_image(photo)
    image = reduce_to(whole, max_side)
    try:
        parts = decompose_photo(tokenizer, image)
    except ValueError as error:
        raise UserError(f"{folder}: with {photo}: {error}") from None
    except RuntimeError as error:
        if "allocate" not in str(error):  # torch has no class of its own for it on a CPU
            raise
        raise UserError(
            f"{photo}: {image.width}x{image.height} does not fit into the memory; "
            f"lower --max-side {max_side}"
        ) from None
    _write(output, photo.name, parts)
    if image.size != whole.size:
        typer.echo(
            f"{photo}: reduced from {whole.width}x{whole.height} to {image.width}x{image.height} "
            f"(--max-side {max_side})"
        )
    typer.echo(f"{output}: {_summary(parts)}")


def _write(output: Path, name: str, parts: "Decomposition") -> None:
    """Writes all pictures or none: they are written to a temporary folder first."""
    from tvqrap.evaluation.report.contact_sheet import SheetRow, contact_sheet
    from tvqrap.images.save import save_png

    pictures = parts.pictures
    sheet = contact_sheet(list(pictures), [SheetRow(name, list(pictures.values()))])
    try:
        output.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".", dir=output) as temporary:
            save_png(Path(temporary) / "sheet.png", sheet)
            for title, picture in pictures.items():
                save_png(Path(temporary) / f"{title}.png", picture)
            for title in PICTURES:
                made = Path(temporary) / f"{title}.png"
                if made.exists():
                    made.replace(output / made.name)
                else:  # written by an earlier call with a structure branch
                    (output / made.name).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{output}: cannot be written ({error})") from None


def _summary(parts: "Decomposition") -> str:
    used = f"{round(parts.use.usage * parts.codebook)} of {parts.codebook} codes"
    use = f"{used}, perplexity {parts.use.perplexity:.1f}"
    texture = f"{parts.psnr(parts.texture):.2f} dB"
    if parts.both is None or parts.structure is None or parts.structure_share is None:
        return f"{use}, no structure branch: PSNR {texture} from the codes"
    return (
        f"{use}, structure share {parts.structure_share:.0%}, "
        f"PSNR {parts.psnr(parts.both):.2f} dB "
        f"(structure alone {parts.psnr(parts.structure):.2f} dB, codes alone {texture})"
    )
