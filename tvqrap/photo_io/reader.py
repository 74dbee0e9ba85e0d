"""Reads a photograph: its pixels, its transparency and its metadata."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tvqrap.images.high_bit_depth import (
    as_meant,
    has_deep_colours,
    has_deep_gray_and_alpha,
    keep_lower_bytes,
)
from tvqrap.images.open import MAX_PIXELS, open_image
from tvqrap.images.orientation import orientation_of, swaps_sides, upright
from tvqrap.photo_io.metadata import Metadata, metadata_of
from tvqrap.photo_io.photo import Photo, deep_photo, photo_of
from tvqrap.photo_io.png import png_exif


@dataclass(frozen=True)
class PhotoFile:
    """A photograph as read."""

    photo: Photo
    metadata: Metadata
    frames: int
    """Pages or frames that the file has; the first is what was read."""
    left_out: tuple[str, ...]
    """Names of the metadata that could not be read."""


class Header(NamedTuple):
    """What can be known of a photograph without decoding it."""

    width: int
    """Upright, as the height is."""
    height: int
    deep: bool
    """Whether it has 16 bits."""


def read_header(path: Path, max_pixels: int = MAX_PIXELS) -> Header:
    """Raises UserError as `read_photo` does, but for what only decoding shows."""
    with open_image(path, max_pixels) as image:
        width, height = image.size
        deep = image.mode.startswith("I") or has_deep_colours(image)
        if image.format == "PNG" and "exif" not in image.info:
            exif = png_exif(path)
            if exif is not None:
                image.info["exif"] = exif
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
        image.load()
        orientation = orientation_of(image)
        turned = upright(as_meant(image), orientation)
        if deep:
            with open_image(source, max_pixels) as lower:
                keep_lower_bytes(lower)
                photo = deep_photo(turned, upright(lower, orientation))
        else:
            photo = photo_of(turned, gray)
        metadata, left_out = metadata_of(image, photo.gray)
        return PhotoFile(photo, metadata, frames, tuple(left_out))
