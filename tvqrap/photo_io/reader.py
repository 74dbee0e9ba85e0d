"""Reads a photograph: its pixels, its transparency and its metadata."""

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from tvqrap.images.reading.high_bit_depth import (
    HEAD,
    as_meant,
    check_readable,
    deep_colours,
    has_deep_colours,
    has_deep_gray_and_alpha,
    keep_lower_bytes,
    stated_bits,
)
from tvqrap.images.reading.open import MAX_PIXELS, open_image
from tvqrap.images.reading.orientation import orientation_of, upright, upright_size
from tvqrap.photo_io.metadata import Metadata, metadata_of
from tvqrap.photo_io.photo import Photo, alike, photo_of, photo_of_array
from tvqrap.runtime.errors import UserError
from tvqrap.runtime.text import printable

_SEVERAL: dict[str, Literal["frames", "pages"]] = {
    "PNG": "frames",
    "GIF": "frames",
    "WEBP": "frames",
    "AVIF": "frames",
    "TIFF": "pages",
}
"""Content of a file of several images, by Pillow's name of its format. Files of other formats hold
previews or bursts."""
_MOST, _MOST_COUNTED = 10_000, 1000
"""Frames or pages that are read, and that are counted for a note where the first one is read."""


@dataclass(frozen=True)
class PhotoFile:
    """The content of a photograph's file, or of one of its pages."""

    photo: Photo
    metadata: Metadata
    notes: tuple[str, ...]
    """One line for each loss of pixels: other pages or frames, bits beyond 8."""
    left_out: tuple[str, ...]
    """Names of the metadata that cannot be read, or that the enlarged image cannot have."""


@dataclass(frozen=True)
class Animation:
    """How frames follow each other."""

    durations: tuple[float, ...]
    """Milliseconds of each frame."""
    plays: int
    """How often the frames are shown, 0 for ever."""


@dataclass(frozen=True)
class SeveralPhotos:
    """All frames or pages of a file."""

    files: tuple[PhotoFile, ...]
    """Frames of an animation have one size, depth and kind, and the metadata of the first."""
    animation: Animation | None
    """None for pages."""


class Header(NamedTuple):
    """Properties of a photograph that are known without decoding it."""

    width: int
    """Width and height are those of the upright photograph."""
    height: int
    deep: bool
    """Whether it has 16 bits."""


class SeveralHeader(NamedTuple):
    """Properties of all frames or pages that are known without decoding them."""

    sizes: tuple[tuple[int, int], ...]
    """(width, height) of each, upright."""
    pages: bool
    """Whether they are pages, and not frames of an animation."""


def read_header(source: Path | bytes, max_pixels: int = MAX_PIXELS) -> Header:
    """Reads size and depth; raises UserError as `read_photo` does, but for faults in the pixels."""
    with open_image(source, max_pixels) as image:
        deep = image.mode.startswith("I") or has_deep_colours(image)
        return Header(*upright_size(image), deep)


def read_several_header(source: Path | bytes, max_pixels: int = MAX_PIXELS) -> SeveralHeader | None:
    """Sizes of all frames or pages; None for a file that holds one image, or bursts and previews.

    Raises UserError as `read_photo` does, but for faults in the pixels, and where all images
    together have more than `max_pixels`.
    """
    with open_image(source, max_pixels) as image:
        kind = _SEVERAL.get(image.format or "")
        sizes = _sizes(image, _MOST)
        if kind is None or len(sizes) < 2:
            return None
        name = printable(source) if isinstance(source, Path) else "standard input"
        if len(sizes) > _MOST:
            raise UserError(f"{name}: holds more than {_MOST} {kind}, at most {_MOST} are read")
        pixels = sum(width * height for width, height in sizes)
        if pixels > max_pixels:
            raise UserError(
                f"{name}: {len(sizes)} {kind} are {pixels} pixels, at most {max_pixels} are read"
            )
    return SeveralHeader(tuple(sizes), kind == "pages")


def read_photo(source: Path | bytes, max_pixels: int = MAX_PIXELS) -> PhotoFile:
    """Reads a file, or the content of one (called standard input in errors).

    CMYK becomes RGB by way of its profile where it has one; 16 bits are kept of gray, RGB and RGBA
    in PNGs and TIFFs. Metadata that is broken is left out. Raises UserError, in one line, for a
    file that is missing, truncated, no image, without a meaning as RGB, or larger than
    `max_pixels`, before its pixels are decoded.
    """
    with open_image(source, max_pixels) as image:
        sizes = _sizes(image, _MOST_COUNTED)
        hint = "; --frames all takes every one" if image.format in _SEVERAL else ""
        read = _read(source, image, 0, sizes[0], max_pixels, has_deep_colours(image))
        count = _first(image) + len(sizes)
    if count == 1:
        return read
    images = f"more than {_MOST_COUNTED}" if len(sizes) > _MOST_COUNTED else f"{count}"
    return replace(read, notes=(f"holds {images} images, the first is read{hint}", *read.notes))


def read_several(source: Path | bytes, max_pixels: int = MAX_PIXELS) -> SeveralPhotos:
    """Reads all frames or pages of a file for which `read_several_header` gives sizes.

    Frames are whole pictures, with the earlier ones below them as the file says. Raises UserError
    as `read_photo` and `read_several_header` do.
    """
    header = read_several_header(source, max_pixels)
    assert header is not None
    files: list[PhotoFile] = []
    durations: list[float] = []
    with open_image(source, max_pixels) as image:
        plays = _plays(image)
        for number in range(_first(image), _first(image) + len(header.sizes)):
            image.seek(number)
            check_readable(image)
            # Frames are drawn over each other, which does not work with lower bytes alone.
            deep = header.pages and has_deep_colours(image)
            read = _read(source, image, number, header.sizes[len(files)], max_pixels, deep)
            files.append(read)
            durations.append(float(image.info.get("duration", 0)))
    if header.pages:
        return SeveralPhotos(tuple(files), None)
    photos = alike([read.photo for read in files])
    frames = tuple(replace(files[0], photo=photo) for photo in photos)
    return SeveralPhotos(frames, Animation(tuple(durations), plays))


def _read(
    source: Path | bytes,
    image: Image.Image,
    number: int,
    size: tuple[int, int],
    max_pixels: int,
    deep: bool,
) -> PhotoFile:
    """The frame or page of a number, to which the image has been set; `size` is by its header."""
    gray = has_deep_gray_and_alpha(image)
    bits = stated_bits(image, _head(source))
    orientation = orientation_of(image)
    image.load()
    turned = upright(as_meant(image), orientation)
    if deep:
        with open_image(source, max_pixels) as lower:
            lower.seek(number)
            keep_lower_bytes(lower)
            photo = photo_of_array(deep_colours(turned, upright(lower, orientation)))
    else:
        photo = photo_of(turned, gray)
    found = photo.pixels.shape[1::-1]
    if found != size:
        sizes = [f"{width}x{height}" for width, height in (found, size)]
        raise ValueError(f"image {number + 1} is {sizes[0]}, expected {sizes[1]}")
    metadata, left_out = metadata_of(image, photo.gray)
    reduced = bits > 8 and photo.pixels.dtype == np.uint8
    notes = (f"{bits} bits reduced to 8",) if reduced else ()
    return PhotoFile(photo, metadata, notes, tuple(left_out))


def _first(image: Image.Image) -> int:
    """Number of the first frame: behind a PNG's picture for programs that show no frames."""
    return 1 if getattr(image, "default_image", False) else 0


def _sizes(image: Image.Image, most: int) -> list[tuple[int, int]]:
    """Sizes of all frames or pages, or of one more than `most` where there are more."""
    sizes = [upright_size(image)]
    if image.format != "TIFF":
        return sizes * min(getattr(image, "n_frames", 1) - _first(image), most + 1)
    # Pillow's own count takes a time that grows with the square of the pages.
    with suppress(EOFError):
        while len(sizes) <= most:
            image.seek(len(sizes))
            sizes.append(upright_size(image))
    image.seek(0)
    return sizes


def _plays(image: Image.Image) -> int:
    """How often an animation is shown, 0 for ever."""
    loop = image.info.get("loop")
    if image.format == "GIF":
        # A GIF counts repetitions, and is shown once without a number.
        return 1 if loop is None else loop + 1 if loop else 0
    return loop or 0


def _head(source: Path | bytes) -> bytes:
    if isinstance(source, bytes):
        return source[:HEAD]
    with source.open("rb") as file:
        return file.read(HEAD)
