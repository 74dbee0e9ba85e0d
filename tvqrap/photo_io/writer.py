"""Writes an upscaled photograph with the metadata of its source."""

import math
import struct
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tvqrap.photo_io.formats import Format
from tvqrap.photo_io.metadata import Metadata, exif_bytes, tiff_tags
from tvqrap.photo_io.photo import Pixels, eight_bits
from tvqrap.photo_io.png import PngWriter, write_png_metadata
from tvqrap.photo_io.tiff import TiffWriter

_UNIT, _X_RESOLUTION, _Y_RESOLUTION, _XMP, _IPTC, _PROFILE = 296, 282, 283, 700, 33723, 34675
"""Where a TIFF keeps resolution (unit 2: inches), XMP, IPTC and the colour profile."""

_MARKER = 65533
"""Bytes that a JPEG's marker, one piece of its metadata, can hold."""

_XMP_NAME, _IPTC_NAME = b"http://ns.adobe.com/xap/1.0/\0", b"Photoshop 3.0\x008BIM\x04\x04\0\0"
"""What XMP and IPTC begin with in a JPEG."""

_HELD_IN_MEMORY = 2**28
"""Bytes of a finished image above which it waits in a temporary file for its encoder."""


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
