"""File formats that upscaled photographs are written to, and their limits."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tvqrap.runtime.errors import UserError


@dataclass(frozen=True)
class Format:
    """A file format that enlarged photographs are written to."""

    name: str
    """As Pillow knows it, in lower case."""
    suffixes: tuple[str, ...]
    largest_side: int
    """Pixels of the longest side that the format and its encoder can hold."""
    largest_bytes: float = float("inf")
    largest_pixels: float = float("inf")
    alpha: bool = True
    gray: bool = True
    deep: bool = False
    """Whether it holds 16 bits per channel; such formats are written row by row."""
    lossy: bool = False
    """Whether it loses detail, by a quality."""
    lossless: bool = False
    """Whether it can be told to lose nothing, although it is `lossy`."""
    compressed: bool = False
    """Whether it has a lossless compression with levels of effort."""
    several: Literal["frames", "pages"] | None = None
    """Images of one size with durations, or pages of any sizes; None where it holds one image."""


FORMATS = {
    "png": Format("png", (".png",), 2**31 - 1, deep=True, compressed=True, several="frames"),
    # The format ends at 65535; libjpeg, which writes it, at 65500.
    "jpeg": Format("jpeg", (".jpg", ".jpeg"), 65500, alpha=False, lossy=True),
    "webp": Format(
        "webp", (".webp",), 16383, gray=False, lossy=True, lossless=True, several="frames"
    ),
    "tiff": Format(
        "tiff",
        (".tif", ".tiff"),
        2**31 - 1,
        largest_bytes=2**32 - 2**24,
        deep=True,
        compressed=True,
        several="pages",
    ),
    # libavif writes more than it reads.
    "avif": Format(
        "avif", (".avif",), 32768, largest_pixels=16384**2, lossy=True, several="frames"
    ),
}

_ALIKE = {".jpe": "jpeg", ".jfif": "jpeg", ".mpo": "jpeg", ".apng": "png"}
"""Endings of photographs in a format that is written under another ending."""


def format_of_name(path: Path) -> Format | None:
    """The format whose ending a name has; None where it has none that is written."""
    suffix = path.suffix.lower()
    return next((form for form in FORMATS.values() if suffix in form.suffixes), None)


def format_like(photograph: Path) -> Format:
    """The format of a photograph by its ending; PNG where that format is not written."""
    alike = _ALIKE.get(photograph.suffix.lower(), "png")
    return format_of_name(photograph) or FORMATS[alike]


def check_fits_format(name: str, form: Format, size: tuple[int, int], deep: bool) -> None:
    """Raises UserError where a format cannot hold an image of `size` (width, height).

    `name` is the photograph's, for the message; `deep` is whether the image has 16 bits.
    """
    width, height = size
    if max(size) > form.largest_side:
        raise UserError(
            f"{name}: would be {width}x{height}, {form.name} holds sides up to "
            f"{form.largest_side} (png holds more)"
        )
    if width * height > form.largest_pixels:
        raise UserError(
            f"{name}: would be {width}x{height}, {form.name} holds up to "
            f"{form.largest_pixels:.0f} pixels (png holds more)"
        )
    if (8 if deep else 4) * width * height > form.largest_bytes:
        raise UserError(
            f"{name}: would be {width}x{height}, {form.name} holds files up to 4 GB (png is "
            "compressed)"
        )


def check_holds_several(
    name: str, form: Format, sizes: Sequence[tuple[int, int]], pages: bool, deep: bool
) -> None:
    """Raises UserError where a format cannot hold images of these sizes (width, height) together.

    `name` is the photograph's, for the message; `pages` is whether they are pages, and not frames
    with durations; `deep` is whether they have 16 bits.
    """
    found = f"{name}: holds {len(sizes)} {'pages' if pages else 'frames'}"
    if form.several is None:
        able = " and ".join(
            f"{', '.join(known.name for known in FORMATS.values() if known.several == kind)} {kind}"
            for kind in ("frames", "pages")
        )
        raise UserError(f"{found}, {form.name} holds one image ({able})")
    if pages and form.several == "frames":
        raise UserError(f"{found}, {form.name} holds frames of one size (tiff holds pages)")
    # Frames of WebP and AVIF wait in a TIFF of 8 bits for their encoder.
    largest = math.inf if form.name == "png" else FORMATS["tiff"].largest_bytes
    each = 8 if deep and form.deep else 4
    if sum(each * width * height for width, height in sizes) > largest:
        raise UserError(f"{found}, {form.name} takes up to 4 GB of pixels (png takes more frames)")
