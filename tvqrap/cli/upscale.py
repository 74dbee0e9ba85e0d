"""`tvqrap-cli upscale`: photographs in, photographs four times as wide and high out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tvqrap.cli.checkout import find_checkout
from tvqrap.errors import UsageError, UserError

if TYPE_CHECKING:
    from PIL.Image import Image

    from tvqrap.upscaler import Upscaler


def upscale(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="PHOTO...", help="Images, or folders of images.")
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", help="A .png for one image; a folder for several, made if need be."
        ),
    ],
    model: Annotated[
        Path | None, typer.Option(help="Model folder; models/rap of the checkout if not given.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    overwrite: Annotated[bool, typer.Option(help="Replace outputs that are there.")] = False,
) -> None:
    """Enlarge photographs four times; outputs are PNGs.

    Images that cannot be read are named at the end, and the others are done.
    """
    jobs = _jobs(inputs, output)
    _refuse_overwriting(jobs, overwrite)
    model_folder = model or _default_model()

    from tvqrap.images import read_image, save_png
    from tvqrap.progress import progress
    from tvqrap.upscaler import Upscaler

    upscaler = Upscaler.from_pretrained(model_folder, _device(device))
    failed = []
    with progress("upscale", total=len(jobs), unit="image") as advance:
        for source, target in jobs:
            try:
                image = read_image(source)
                save_png(target, _upscaled(upscaler, image, source))
            except UserError as error:
                failed.append(str(error))
            except OSError as error:
                failed.append(f"{target}: cannot be written ({error})")
            advance()
    if failed:
        for line in failed:
            typer.echo(line, err=True)
        raise UserError(f"{len(failed)} of {len(jobs)} images could not be upscaled")


def _upscaled(upscaler: "Upscaler", image: "Image", source: Path) -> "Image":
    try:
        return upscaler(image)
    except ValueError as error:
        raise UserError(f"{source}: {error}") from None


def _device(name: str) -> str:
    import torch

    if name not in ("cpu", "cuda"):
        raise UsageError(f"--device: found {name!r}, expected cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch finds no CUDA device here")
    return name


def _default_model() -> Path:
    root = find_checkout()
    if root is None:
        raise UsageError("--model is missing: outside a checkout there is no default model")
    return root / "models" / "rap"


def _jobs(inputs: list[Path], output: Path) -> list[tuple[Path, Path]]:
    """Each image with its output."""
    from tvqrap.images import find_images

    if len(inputs) == 1 and not inputs[0].is_dir() and not output.is_dir():
        if output.suffix.lower() != ".png":
            raise UsageError(f"{output}: expected a name that ends in .png, or an existing folder")
        return [(inputs[0], output)]
    if output.exists() and not output.is_dir():
        raise UsageError(f"{output}: is a file, expected a folder for several images")
    jobs = []
    for given in inputs:
        if given.is_dir():
            found = find_images(given)
            if not found:
                raise UserError(f"{given}: holds no images")
            for path in found:
                jobs.append((path, (output / path.relative_to(given)).with_suffix(".png")))
        else:
            jobs.append((given, (output / given.name).with_suffix(".png")))
    sources: dict[Path, Path] = {}
    for source, target in jobs:
        if target in sources:
            raise UsageError(
                f"{target}: both {sources[target]} and {source} would be written there"
            )
        sources[target] = source
    return jobs


def _refuse_overwriting(jobs: list[tuple[Path, Path]], overwrite: bool) -> None:
    sources = {source.resolve() for source, _ in jobs}
    for _, target in jobs:
        if target.resolve() in sources:
            raise UserError(f"{target}: would be written over, and is an input")
        if target.exists() and not overwrite:
            raise UserError(f"{target}: exists already; --overwrite replaces it")
