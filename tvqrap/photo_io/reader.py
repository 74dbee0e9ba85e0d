"""Reads a photograph: its pixels, its transparency and its metadata."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tvqrap.images.reading.high_bit_depth import (
    HEAD,
    as_meant,
    deep_colours,
    has_deep_colours,
    has_deep_gray_and_alpha,
    keep_lower_bytes,
    stated_bits,
)
from tvqrap.images.reading.open import MAX_PIXELS, open_image
from tvqrap.images.reading.orientation import orientation_of, swaps_sides, upright
from tvqrap.photo_io.metadata import Metadata, metadata_of
from tvqrap.photo_io.photo import Photo, photo_of, photo_of_array
from tvqrap.photo_io.png import png_chunk


@dataclass(frozen=True)
class PhotoFile:
    """The content of a photograph's file."""

    photo: Photo
    metadata: Metadata
    notes: tuple[str, ...]
    """One line for each loss of pixels: other pages or frames, bits beyond 8."""
    left_out: tuple[str, ...]
    """Names of the metadata that cannot be read, or that the enlarged image cannot have."""


class Header(NamedTuple):
    """Properties of a photograph that are known without decoding it."""

    width: int
    """Width of the upright photograph; the height is of the same."""
    height: int
    deep: bool
    """Whether it has 16 bits."""


def read_header(source: Path | bytes, max_pixels: int = MAX_PIXELS) -> Header:
    """Reads size and depth; raises UserError as `read_photo` does, but for faults in the pixels."""
    with open_image(source, max_pixels) as image:
        width, height = image.size
        deep = image.mode.startswith("I") or has_deep_colours(image)
        if image.format == "PNG" and "exif" not in image.info:
            exif = png_chunk(source, b"eXIf")
            if exif is not None:
                image.info["exif"] = b"Exif\0\0" + exif
        sideways = swaps_sides(orientation_of(image))
        return Header(height, width, deep) if sideways else Header(width, height, deep)


def read_photo(source: Path | bytes, max_pixels: int = MAX_PIXELS) -> PhotoFile:
    """Reads a file, or the content of one (called standard input in errors).

    CMYK becomes RGB by way of its profile where it has one; 16 bits are kept of gray, RGB and RGBA
    in PNGs and TIFFs. Metadata that is broken is left out. Raises UserError, in one line, for
    what is missing, no image, truncated, larger than `max_pixels` (checked before its pixels are
    decoded) or of pixels without a meaning as RGB.
    """
    with open_image(source, max_pixels) as image:
        deep, gray = has_deep_colours(image), has_deep_gray_and_alpha(image)
        frames = getattr(image, "n_frames", 1)
        bits = stated_bits(image, _head(source))
        image.load()
        orientation = orientation_of(image)
        turned = upright(as_meant(image), orientation)
        if deep:
            with open_image(source, max_pixels) as lower:
                keep_lower_bytes(lower)
                photo = photo_of_array(deep_colours(turned, upright(lower, orientation)))
        else:
            photo = photo_of(turned, gray)
        if image.format == "PNG":
            image.info["cicp"] = png_chunk(source, b"cICP")
        metadata, left_out = metadata_of(image, photo.gray)
        notes = []
        if frames > 1:
            notes.append(f"holds {frames} images, the first is read")
        if bits > 8 and photo.pixels.dtype == np.uint8:
            notes.append(f"{bits} bits reduced to 8")
        return PhotoFile(photo, metadata, tuple(notes), tuple(left_out))


def _head(source: Path | bytes) -> bytes:
    if isinstance(source, bytes):
        return source[:HEAD]
    with source.open("rb") as file:
        return file.read(HEAD)
