"""`tvqrap-cli pairs`: inspects and verifies sets of pairs, and previews the degradation."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tvqrap.cli.output_paths import check_folder_overwrite, check_overwrite
from tvqrap.cli.shard_sets import Folder, Full, Json, inspect_sets, trust_params, verify_sets
from tvqrap.runtime.errors import UsageError, UserError
from tvqrap.runtime.text import printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from pipeline.config import DataSettings
    from pipeline.pairs.degradation import Degraded
    from pipeline.sources.photos import Photo

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Sets of HR crops and their degraded LR images.",
)

ParamsFile = Annotated[
    Path | None,
    typer.Option(
        help="File of parameters; if not given, params.yaml here, or the project's default."
    ),
]

_TILE = 256
_MARGIN = 8
_CAPTION = 30


@app.command()
def inspect(folder: Folder, as_json: Json = False) -> None:
    """Print the content of a set of pairs."""
    inspect_sets(folder, as_json)


@app.command()
def verify(
    folder: Folder,
    full: Full = False,
    as_json: Json = False,
) -> None:
    """Check shards against their manifest."""
    verify_sets(folder, "full" if full else "quick", as_json)


@app.command()
def preview(
    source: Annotated[
        Path,
        typer.Argument(help="A photograph, or a folder of them; with --pairs, a sample's key."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The sheet, a PNG.")],
    pairs: Annotated[
        str | None, typer.Option(help="A set of pairs, path or URL: draw one of its samples.")
    ] = None,
    params: ParamsFile = None,
    degradation: Annotated[str, typer.Option(help="Name in pairs.degradations.")] = "train",
    rows: Annotated[int, typer.Option(min=1, max=64, help="Crops on the sheet.")] = 4,
    size: Annotated[int, typer.Option(min=32, help="Side of the HR crop, a multiple of 4.")] = 256,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the degradation's random values.")] = 0,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing file.")] = False,
) -> None:
    """Draw a sheet: HR, the image after each degradation step, and LR.

    With --pairs, the HR and LR images of the sample SOURCE as the set holds them; other options do
    not count.
    """
    if pairs is not None:
        _preview_sample(pairs, str(source), output, overwrite)
        return
    from pipeline.config import CropMode
    from pipeline.pairs.crops import capacity, cut, plan_crop
    from pipeline.pairs.degradation import degrade
    from pipeline.rng import random_stream
    from stages.params import load_params
    from tvqrap.architecture import SCALE
    from tvqrap.images.save import save_png

    if size % SCALE:
        raise UsageError(f"--size: found {size}, expected a multiple of {SCALE}")
    if output.resolve() == source.resolve():
        raise UsageError(f"{output}: is the photograph itself, expected another name")
    check_overwrite(output, overwrite)
    settings = load_params(params or _params())
    if degradation not in settings.pairs.degradations:
        raise UsageError(
            f"--degradation: found {degradation!r}, expected one of "
            + ", ".join(settings.pairs.degradations)
        )
    images = _photographs(source, rows, settings.data)
    lines = []
    for row in range(rows):
        photo, image = images[row % len(images)]
        height, width = image.shape[:2]
        mode: CropMode = "full" if capacity("zoom", width, height, size) == 0 else "zoom"
        crop = plan_crop(mode, width, height, size, False, 0.0, row, (seed, photo.key))
        hr = cut(image, mode, size, crop)
        rng = random_stream(seed, photo.key, row)
        degraded = degrade(hr, settings.pairs.degradations[degradation], rng, steps=True)
        lines.append(_line(photo.name, hr, degraded))
    save_png(output, _sheet(lines))
    typer.echo(f"{output}: {rows} crops, degradation {degradation}, seed {seed}")


def _photographs(
    source: Path, most: int, settings: "DataSettings"
) -> "list[tuple[Photo, NDArray[np.uint8]]]":
    """Decodes up to `most` photographs, and names those that cannot be used.

    Raises `UserError` where none can.
    """
    from pipeline.sources.photos import Photo, UnusableError, decode, discover

    if source.is_dir():
        folder, photos = source, discover(source).photos
    else:
        folder, photos = source.parent, [Photo("photo", source.name)]
    images, skipped = [], []
    for photo in photos[:most]:
        try:
            images.append((photo, decode(folder / photo.name, settings)))
        except UnusableError as error:
            skipped.append(f"{folder / photo.name}: {error}")
    if not images:
        raise UserError(skipped[0] if skipped else f"{source}: found no photograph")
    for line in skipped:
        typer.echo(printable(line), err=True)
    return images


def _preview_sample(folder: str, key: str, output: Path, overwrite: bool) -> None:
    """Draws the images of a stored sample, which the index of its set finds."""
    from pipeline.inspection.pair_sheet import pair_sheet
    from pipeline.storage.location import location
    from tvqrap.images.save import save_png

    check_overwrite(output, overwrite)
    trust_params()
    save_png(output, pair_sheet(location(folder), key))
    typer.echo(f"{output}: sample {key} of {folder}")


@app.command("imagenet-test")
def imagenet_test(
    source: Annotated[Path, typer.Argument(help="Folder of photographs (ImageNet validation).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for gt/ and lq/.")],
    params: ParamsFile = None,
    count: Annotated[
        int | None,
        typer.Option(min=1, help="Number of photographs, drawn at random; all if not given."),
    ] = None,
    size: Annotated[int, typer.Option(min=32, help="Side of HR, a multiple of 4.")] = 256,
    degradation: Annotated[str, typer.Option(help="Name in pairs.degradations.")] = "test",
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the choice and of the degradation.")
    ] = 0,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing test set.")] = False,
) -> None:
    """Build a test set as ImageNet-Test was made: short side to 256, centre crop, degradation.

    `evaluate --gt DIR/gt --lq DIR/lq` takes it. Photographs that cannot be used are named at the
    end.
    """
    from pipeline.imagenet import ABOUT, make_test_set
    from stages.params import load_params
    from stages.runner.executor import worker_count
    from tvqrap.architecture import SCALE
    from tvqrap.runtime.progress import progress

    if size % SCALE:
        raise UsageError(f"--size: found {size}, expected a multiple of {SCALE}")
    known = load_params(params or _params()).pairs.degradations
    if degradation not in known:
        raise UsageError(
            f"--degradation: found {degradation!r}, expected one of {', '.join(known)}"
        )
    check_folder_overwrite(output, ("gt", "lq", ABOUT), "a test set", overwrite)
    made, skipped = make_test_set(
        source,
        output,
        count=count,
        size=size,
        degradation=known[degradation],
        seed=seed,
        workers=worker_count(),
        progress=progress,
    )
    typer.echo(f"{output}: {made} pairs, HR {size}x{size}, degradation {degradation}, seed {seed}")
    for entry in skipped:
        typer.echo(printable(f"{source / entry.name}: {entry.reason}"), err=True)
    if skipped:
        raise UserError(f"{len(skipped)} of {made + len(skipped)} photographs could not be used")


def _params() -> Path:
    """params.yaml of the working directory, or where there is none the default profile."""
    import stages
    from stages.params import PARAMS

    default = Path(stages.__path__[0]) / "profiles" / "laptop.yaml"
    return PARAMS if PARAMS.exists() else default


def _line(name: str, hr: Any, degraded: "Degraded") -> list[tuple[str, "Image"]]:
    """Captions and pictures of one crop, from HR to LR."""
    import numpy as np
    from PIL import Image

    pictures = [(f"HR {hr.shape[1]}x{hr.shape[0]}\n{name}", Image.fromarray(hr))]
    for record, image in zip(degraded.record, degraded.steps or [], strict=True):
        pixels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
        pictures.append((_caption(record), Image.fromarray(pixels)))
    lr = degraded.image
    pictures.append((f"LR {lr.shape[1]}x{lr.shape[0]}\n8 bit", Image.fromarray(lr)))
    return pictures


def _caption(record: dict[str, Any]) -> str:
    """A step's record in two lines: its name and its numbers."""
    match record["step"]:
        case "blur":
            numbers = [f"{record['size']}px"]
            if "sigma" in record:
                numbers.append("s " + "/".join(f"{value:.1f}" for value in record["sigma"]))
            if "beta" in record:
                numbers.append(f"beta {record['beta']:.1f}")
            if "cutoff" in record:
                numbers.append(f"cutoff {record['cutoff']:.2f} pi")
            return f"blur, {record['kind'].replace('_', ' ')}\n" + ", ".join(numbers)
        case "resize":
            return f"resize {record['scale']:.2f}\n{record['filter']}, to {_by(record['size'])}"
        case "noise":
            amount = record.get("sigma", record.get("scale"))
            colour = "gray" if record["gray"] else "colour"
            return f"noise, {record['kind']}\n{amount:.2f}, {colour}"
        case "jpeg":
            return f"JPEG\nquality {record['quality']}"
        case "lr":
            sinc = record["sinc"]
            detail = f"sinc {sinc['size']}px {sinc['cutoff']:.2f} pi" if sinc else "no sinc"
            return f"resize to LR\n{record['filter']}, {detail}"
    return str(record["step"])


def _by(size: list[int]) -> str:
    return f"{size[0]}x{size[1]}"


def _sheet(lines: list[list[tuple[str, "Image"]]]) -> "Image":
    """A grid of captioned pictures, all enlarged or reduced to the same tile."""
    from PIL import Image, ImageDraw, ImageFont

    columns = max(len(line) for line in lines)
    cell = (_TILE + _MARGIN, _TILE + _CAPTION + _MARGIN)
    sheet = Image.new("RGB", (columns * cell[0] + _MARGIN, len(lines) * cell[1] + _MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(12)
    for row, line in enumerate(lines):
        for column, (caption, picture) in enumerate(line):
            left, top = _MARGIN + column * cell[0], _MARGIN + row * cell[1]
            draw.multiline_text((left, top), caption, fill="black", font=font, spacing=1)
            enlarge = picture.width <= _TILE
            way = Image.Resampling.NEAREST if enlarge else Image.Resampling.BOX
            tile = picture.resize((_TILE, round(_TILE * picture.height / picture.width)), way)
            sheet.paste(tile, (left, top + _CAPTION))
    return sheet
