"""Writes an upscaled photograph with the metadata of its source."""

import itertools
import math
import struct
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import AppendingTiffWriter

from tvqrap.images.reading.high_bit_depth import eight_bits
from tvqrap.images.reading.open import open_image, to_rgb
from tvqrap.images.save import encoded
from tvqrap.photo_io.formats import Format
from tvqrap.photo_io.metadata import KEPT_FOLDERS, Metadata, exif_bytes, tiff_tags
from tvqrap.photo_io.photo import Pixels
from tvqrap.photo_io.png import PngWriter, write_png_metadata
from tvqrap.photo_io.reader import Animation
from tvqrap.photo_io.tiff import TiffWriter
from tvqrap.runtime.atomic import temporary_folder

_UNIT, _X_RESOLUTION, _Y_RESOLUTION, _XMP, _IPTC, _PROFILE = 296, 282, 283, 700, 33723, 34675
"""TIFF tags of the resolution (unit 2: inches), XMP, IPTC and the colour profile."""

_MARKER = 65533
"""Bytes that a JPEG's marker, one piece of its metadata, can hold."""

_MOST_PLAYS, _LONGEST_FRAME = 2**16 - 1, 2**24 - 1
"""Repetitions and milliseconds of a frame that a WebP can hold."""

_XMP_NAME, _IPTC_NAME = b"http://ns.adobe.com/xap/1.0/\0", b"Photoshop 3.0\x008BIM\x04\x04\0\0"
"""Headers of XMP and IPTC in a JPEG."""


def write_photo(
    file: BinaryIO,
    form: Format,
    rows: Iterator[Pixels],
    size: tuple[int, int],
    metadata: Metadata,
    *,
    quality: int | None = None,
    lossless: bool = False,
    compression: int | None = None,
) -> list[str]:
    """Writes an image of `size` (width, height), whose bands `enlarged_rows` yields.

    PNG and TIFF are written as the rows come, with 16 bits if they have them. The encoders of other
    formats need the whole image, which takes 4 bytes a pixel of memory.

    `quality` (1 to 100, else 95) and `lossless` are for formats that have them. `compression` (0 to
    9) is the effort of PNG (else 6) and TIFF (else 0, uncompressed).

    Metadata that the format cannot hold is left out, and its names are returned. What is too large
    goes before the first band is asked for.
    """
    left_out: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of tags with more values than they should
        exif = exif_bytes(metadata, size, _MARKER if form.name == "jpeg" else math.inf, left_out)
        if form.name == "jpeg":
            metadata = _that_fits_jpeg(metadata, left_out)
        tags = _tiff_tags(metadata, exif) if form.name == "tiff" else {}
    if metadata.cicp is not None and form.name != "png":
        left_out.append("colour space (cICP)")
    if form.name == "tiff":
        _write_tiff(file, rows, size, tags, compression)
        return left_out
    bands, channels, bits = _kind(rows)
    if form.name == "png":
        png = PngWriter(
            file, *size, channels, bits=bits, level=6 if compression is None else compression
        )
        write_png_metadata(png, metadata, exif)
        for band in bands:
            png.write(band)
        png.finish()
    else:
        image = _whole_image(bands, size, form)
        metadata = _of_colours(form, image.mode, metadata, left_out)
        options = _encoder_options(form, metadata, exif, quality, lossless)
        file.write(encoded(image, form.name, **options))
    return left_out


def write_frames(
    file: BinaryIO,
    form: Format,
    frames: Iterator[Iterator[Pixels]],
    size: tuple[int, int],
    metadata: Metadata,
    animation: Animation,
    *,
    quality: int | None = None,
    lossless: bool = False,
    compression: int | None = None,
    scratch: Path | None = None,
) -> list[str]:
    """Writes an animation; `frames` are the bands of each frame, all of one kind.

    PNG is written as the rows come. The encoders of WebP and AVIF get the frames one at a time,
    from a temporary file in `scratch`, or where the system keeps such files. All else is as in
    `write_photo`.
    """
    left_out: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in write_photo
        exif = exif_bytes(metadata, size, math.inf, left_out)
    if form.name == "png":
        _write_apng(file, frames, size, metadata, exif, animation, compression)
        return left_out
    if metadata.cicp is not None:
        left_out.append("colour space (cICP)")
    with temporary_folder(scratch) as folder:
        waiting = folder / "frames.tif"
        with waiting.open("w+b") as file_of_frames:
            eight = ((eight_bits(band) for band in bands) for bands in frames)
            write_pages(file_of_frames, (Page(bands, size, Metadata()) for bands in eight))
        with open_image(waiting, max_pixels=size[0] * size[1]) as image:
            metadata = _of_colours(form, image.mode, metadata, left_out)
            options = _encoder_options(form, metadata, exif, quality, lossless)
            options["duration"] = _whole_milliseconds(animation.durations)
            if form.name == "webp":
                options["loop"] = min(animation.plays, _MOST_PLAYS)
            elif animation.plays:
                left_out.append("number of repetitions")
            file.write(encoded(image, form.name, save_all=True, **options))
    return left_out


class Page(NamedTuple):
    """A page to be written."""

    rows: Iterator[Pixels]
    """Bands, as `enlarged_rows` yields them."""
    size: tuple[int, int]
    """(width, height)"""
    metadata: Metadata


def write_pages(
    file: BinaryIO, pages: Iterable[Page], *, compression: int | None = None
) -> list[str]:
    """Writes a TIFF of several pages into a file that can be read too, as `write_photo` does."""
    left_out: list[str] = []
    appended = AppendingTiffWriter(file)
    for number, page in enumerate(pages):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as in write_photo
            exif = exif_bytes(page.metadata, page.size, math.inf, left_out)
            tags = _tiff_tags(page.metadata, exif)
        if page.metadata.cicp is not None:
            left_out.append("colour space (cICP)")
        for folder in KEPT_FOLDERS:
            # Pillow leaves the places of folders as they are where it appends a page.
            if number and tags.pop(folder, None) is not None:
                left_out.append(f"EXIF details of page {number + 1}")
        _write_tiff(appended, page.rows, page.size, tags, compression)
        appended.newFrame()
    return left_out


def _write_tiff(
    file: BinaryIO,
    rows: Iterator[Pixels],
    size: tuple[int, int],
    tags: dict[int, Any],
    compression: int | None,
) -> None:
    bands, channels, bits = _kind(rows)
    tiff = TiffWriter(file, *size, channels, tags, bits=bits, level=compression or 0)
    for band in bands:
        tiff.write(band)
    tiff.finish()


def _kind(rows: Iterator[Pixels]) -> tuple[Iterator[Pixels], int, Literal[8, 16]]:
    """(bands, channels, bits); computes the first band to find them."""
    first = next(rows)
    channels = 1 if first.ndim == 2 else first.shape[2]
    return itertools.chain([first], rows), channels, 16 if first.dtype == np.uint16 else 8


def _write_apng(
    file: BinaryIO,
    frames: Iterator[Iterator[Pixels]],
    size: tuple[int, int],
    metadata: Metadata,
    exif: bytes | None,
    animation: Animation,
    compression: int | None,
) -> None:
    first, channels, bits = _kind(next(frames))
    level = 6 if compression is None else compression
    png = PngWriter(file, *size, channels, bits=bits, level=level)
    png.animate(len(animation.durations), animation.plays)
    write_png_metadata(png, metadata, exif)
    for duration, bands in zip(animation.durations, itertools.chain([first], frames), strict=True):
        png.start_frame(duration)
        for band in bands:
            png.write(band)
    png.finish()


def _whole_milliseconds(durations: Iterable[float]) -> list[int]:
    """Durations in whole milliseconds, from 1, whose sum is off by less than one of them."""
    ends = [round(end) for end in itertools.accumulate(durations, initial=0.0)]
    return [min(max(1, end - start), _LONGEST_FRAME) for start, end in itertools.pairwise(ends)]


def _whole_image(bands: Iterable[Pixels], size: tuple[int, int], form: Format) -> Image.Image:
    """The image of `size` that the bands make, in 8 bits; over white if it can have no alpha."""
    image: Image.Image | None = None
    top = 0
    for band in bands:
        part = Image.fromarray(eight_bits(band))
        if part.mode in ("LA", "RGBA") and not form.alpha:
            part = to_rgb(part).convert("RGB" if part.mode == "RGBA" else "L")
        if image is None:
            image = Image.new(part.mode, size)
        image.paste(part, (0, top))
        top += part.height
    assert image is not None
    return image


def _encoder_options(
    form: Format, metadata: Metadata, exif: bytes | None, quality: int | None, lossless: bool
) -> dict[str, Any]:
    """Arguments of Pillow's encoder of JPEG, WebP or AVIF."""
    quality = 95 if quality is None else quality
    options: dict[str, Any] = {
        "quality": quality,
        "exif": exif,
        "dpi": metadata.dpi,
        "xmp": metadata.xmp,
        "icc_profile": metadata.icc_profile,
    }
    if form.name == "jpeg":
        options["subsampling"] = 0 if quality >= 90 else 2
        options["comment"] = metadata.comment
        if metadata.iptc is not None:
            options["extra"] = _iptc_marker(metadata.iptc)
    if form.name == "avif":
        options["subsampling"] = "4:4:4" if quality >= 90 else "4:2:0"
    if lossless and form.lossless:
        # In lossless WebP quality is the effort; exact keeps the colours of hidden pixels.
        options |= {"lossless": True, "exact": True, "quality": 80}
    return options


def _of_colours(form: Format, mode: str, metadata: Metadata, left_out: list[str]) -> Metadata:
    """Drops the profile of a gray image that the encoder of WebP or AVIF makes an RGB one."""
    becomes_rgb = mode in ("L", "LA") and (not form.gray or (form.name == "avif" and mode == "LA"))
    if metadata.icc_profile is None or not becomes_rgb:
        return metadata
    left_out.append("colour profile")
    return replace(metadata, icc_profile=None)


def _that_fits_jpeg(metadata: Metadata, left_out: list[str]) -> Metadata:
    """Drops metadata that a marker cannot hold; a PNG's text Comment becomes the comment."""
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
