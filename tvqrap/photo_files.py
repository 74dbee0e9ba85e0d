"""Photographs in files: what is read of one beside its pixels, and how an enlarged one is written.

Metadata goes along (`tvqrap.photo_metadata`); the orientation is applied and taken out.
"""

import math
import struct
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tvqrap.deep_pixels import (
    as_meant,
    has_deep_colours,
    has_deep_gray_and_alpha,
    keep_lower_bytes,
    refuse_misread,
)
from tvqrap.errors import UserError
from tvqrap.images import MAX_PIXELS, reading, refuse_larger
from tvqrap.orientation import orientation_of, swaps_sides, upright
from tvqrap.photo import Photo, Pixels, deep_photo, eight_bits, photo_of
from tvqrap.photo_metadata import (
    Metadata,
    exif_bytes,
    metadata_of,
    tiff_tags,
)
from tvqrap.png_metadata import png_exif, write_png_metadata
from tvqrap.png_rows import PngWriter
from tvqrap.tiff_rows import TiffWriter

_UNIT, _X_RESOLUTION, _Y_RESOLUTION, _XMP, _IPTC, _PROFILE = 296, 282, 283, 700, 33723, 34675
"""Where a TIFF keeps resolution (unit 2: inches), XMP, IPTC and the colour profile."""
_MARKER = 65533
"""Bytes that a JPEG's marker, one piece of its metadata, can hold."""
_XMP_NAME, _IPTC_NAME = b"http://ns.adobe.com/xap/1.0/\0", b"Photoshop 3.0\x008BIM\x04\x04\0\0"
"""What XMP and IPTC begin with in a JPEG."""
_HELD_IN_MEMORY = 2**28
"""Bytes of a finished image above which it waits in a temporary file for its encoder."""


@dataclass(frozen=True)
class Format:
    """A kind of file that enlarged photographs are written to."""

    name: str
    """As Pillow knows it, in lower case."""
    suffixes: tuple[str, ...]
    largest_side: int
    """Pixels, of what the format or its encoder can hold."""
    largest_bytes: float = float("inf")
    alpha: bool = True
    gray: bool = True
    deep: bool = False
    """Whether it holds 16 bits, and is written as the rows come."""
    lossy: bool = False
    """Whether it has a quality."""


FORMATS = {
    "png": Format("png", (".png",), 2**31 - 1, deep=True),
    # The format ends at 65535; libjpeg, which writes it, at 65500.
    "jpeg": Format("jpeg", (".jpg", ".jpeg"), 65500, alpha=False, lossy=True),
    "webp": Format("webp", (".webp",), 16383, gray=False, lossy=True),
    "tiff": Format("tiff", (".tif", ".tiff"), 2**31 - 1, largest_bytes=2**32 - 2**24, deep=True),
}


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
    name = str(path)
    with reading(name, max_pixels), Image.open(path) as image:
        refuse_larger(name, image, max_pixels)
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
    name = str(source) if isinstance(source, Path) else "standard input"
    with reading(name, max_pixels), _opened(source) as image:
        refuse_larger(name, image, max_pixels)
        refuse_misread(image)
        deep, gray = has_deep_colours(image), has_deep_gray_and_alpha(image)
        frames = getattr(image, "n_frames", 1)
        image.load()
        orientation = orientation_of(image)
        turned = upright(as_meant(image), orientation)
        if deep:
            with _opened(source) as lower:
                keep_lower_bytes(lower)
                photo = deep_photo(turned, upright(lower, orientation))
        else:
            photo = photo_of(turned, gray)
        metadata, left_out = metadata_of(image, photo.gray)
        return PhotoFile(photo, metadata, frames, tuple(left_out))


def _opened(source: Path | bytes) -> Image.Image:
    return Image.open(source if isinstance(source, Path) else BytesIO(source))


def refuse_unholdable(name: str, form: Format, size: tuple[int, int], deep: bool) -> None:
    """Raises UserError where a format cannot hold an image of `size` (width, height).

    `name` is the photograph's, for the message; `deep` is whether the image has 16 bits.
    """
    width, height = size
    if max(size) > form.largest_side:
        raise UserError(
            f"{name}: would be {width}x{height}, {form.name} holds sides up to "
            f"{form.largest_side} (png holds more)"
        )
    if (8 if deep else 4) * width * height > form.largest_bytes:
        raise UserError(
            f"{name}: would be {width}x{height}, {form.name} holds files up to 4 GB (png is "
            "compressed)"
        )


def write_photo(
    file: BinaryIO,
    form: Format,
    rows: Iterator[Pixels],
    size: tuple[int, int],
    metadata: Metadata,
    quality: int | None = None,
) -> list[str]:
    """Writes an image of `size` (width, height) that comes in bands, as of `enlarged_rows`.

    PNG and TIFF are written as the rows come, with 16 bits if they have them. The encoders of other
    formats need the whole image: it waits in a temporary file if it is large, and takes 4 bytes a
    pixel of memory while it is encoded. `quality` (1 to 100) is for formats that have one.

    Metadata that is too large for the format is left out, before the first band is asked for; its
    names are returned.
    """
    left_out: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of tags with more values than they should
        exif = exif_bytes(metadata, size, _MARKER if form.name == "jpeg" else math.inf, left_out)
        if form.name == "jpeg":
            metadata = _that_fits_jpeg(metadata, left_out)
        tags = _tiff_tags(metadata, exif) if form.name == "tiff" else {}
    top_band = next(rows)
    channels = 1 if top_band.ndim == 2 else top_band.shape[2]
    if form.deep:
        bits: Literal[8, 16] = 16 if top_band.dtype == np.uint16 else 8
        writer: PngWriter | TiffWriter
        if form.name == "png":
            writer = PngWriter(file, *size, channels, bits=bits)
            write_png_metadata(writer, metadata, exif)
        else:
            writer = TiffWriter(file, *size, channels, tags, bits=bits)
        for band in _chained(top_band, rows):
            writer.write(band)
        if isinstance(writer, PngWriter):
            writer.finish()
        return left_out
    options: dict[str, Any] = {"exif": exif, "dpi": metadata.dpi, "xmp": metadata.xmp}
    profile = metadata.icc_profile
    if profile is not None and (channels > 2 or form.gray):
        options["icc_profile"] = profile
    if form.lossy:
        options["quality"] = 95 if quality is None else quality
    if form.name == "jpeg":
        options["subsampling"] = 0 if options["quality"] >= 90 else 2
        options["comment"] = metadata.comment
        if metadata.iptc is not None:
            options["extra"] = _iptc_marker(metadata.iptc)
    shape = (size[1], size[0]) if channels == 1 else (size[1], size[0], channels)
    with tempfile.TemporaryFile() as waiting:
        whole: NDArray[np.uint8]
        if size[0] * size[1] * channels > _HELD_IN_MEMORY:
            whole = np.memmap(waiting, np.uint8, "w+", shape=shape)
        else:
            whole = np.empty(shape, np.uint8)
        top = 0
        for band in _chained(top_band, rows):
            whole[top : top + len(band)] = eight_bits(band)
            top += len(band)
        image = Image.fromarray(whole)
        del whole
        if channels in (2, 4) and not form.alpha:
            white = Image.new("RGBA", size, "white")
            white.alpha_composite(image.convert("RGBA"))
            image = white.convert("RGB" if channels == 4 else "L")
        image.save(file, form.name, **{k: v for k, v in options.items() if v is not None})
    return left_out


def _that_fits_jpeg(metadata: Metadata, left_out: list[str]) -> Metadata:
    """Without what a marker cannot hold; a PNG's comment becomes the comment."""
    comment = metadata.comment
    if comment is None and "Comment" in metadata.text:
        comment = metadata.text["Comment"].encode(errors="replace")
    kept = {"XMP": metadata.xmp, "IPTC": metadata.iptc, "comment": comment}
    room = {
        "XMP": _MARKER - len(_XMP_NAME),
        "IPTC": _MARKER - len(_IPTC_NAME) - 5,  # its length and a byte that makes it even
        "comment": _MARKER,
    }
    for name, value in kept.items():
        if value is not None and len(value) > room[name]:
            left_out.append(name)
            kept[name] = None
    profile, dpi = metadata.icc_profile, metadata.dpi
    if profile is not None and len(profile) > 255 * (_MARKER - 14):  # numbered pieces, 14 bytes
        left_out.append("colour profile")
        profile = None
    if dpi is not None and min(round(value) for value in dpi) < 1:
        left_out.append("resolution")
        dpi = None
    return replace(
        metadata,
        icc_profile=profile,
        xmp=kept["XMP"],
        dpi=dpi,
        comment=kept["comment"],
        iptc=kept["IPTC"],
    )


def _iptc_marker(iptc: bytes) -> bytes:
    content = _IPTC_NAME + struct.pack(">I", len(iptc)) + iptc + bytes(len(iptc) % 2)
    return b"\xff\xed" + struct.pack(">H", len(content) + 2) + content


def _tiff_tags(metadata: Metadata, exif: bytes | None) -> dict[int, Any]:
    tags: dict[int, Any] = {}
    if exif is not None:
        held = Image.Exif()
        held.load(exif)
        tags = tiff_tags(held)
    if metadata.dpi is not None:
        tags[_UNIT] = 2
        tags[_X_RESOLUTION], tags[_Y_RESOLUTION] = metadata.dpi
    if metadata.xmp is not None:
        tags[_XMP] = metadata.xmp
    if metadata.iptc is not None:
        tags[_IPTC] = metadata.iptc
    if metadata.icc_profile is not None:
        tags[_PROFILE] = metadata.icc_profile
    return tags


def _chained(first: Pixels, rest: Iterator[Pixels]) -> Iterator[Pixels]:
    yield first
    yield from rest
