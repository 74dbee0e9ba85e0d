"""Photographs in files: what is read of one beside its pixels, and how an enlarged one is written.

Colour profile, EXIF, XMP and resolution go along; the orientation is applied and taken out.
"""

import struct
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from tvqrap.deep_pixels import has_deep_colours, keep_lower_bytes
from tvqrap.errors import UserError
from tvqrap.images import MAX_PIXELS, reading, refuse_larger
from tvqrap.photo import Photo, Pixels, deep_photo, eight_bits, photo_of
from tvqrap.png_rows import PngWriter
from tvqrap.tiff_rows import TiffWriter

_SIDEWAYS = frozenset({5, 6, 7, 8})
"""EXIF orientations that swap width and height."""
_ORIENTATION, _EXIF_FOLDER = 0x0112, 0x8769
_KEPT_EXIF = (
    *(0x010E, 0x010F, 0x0110, 0x0131, 0x0132),  # description, make, model, software, time
    *(0x013B, 0x8298),  # artist, copyright
    *range(0x9C9B, 0x9CA0),  # title, comment, author, keywords, subject, as Windows has them
)
"""Tags of the main EXIF folder that hold of the enlarged image; others tell of the old file."""
_KEPT_FOLDERS = (_EXIF_FOLDER, 0x8825)
"""The EXIF folder proper and the place (GPS)."""
_SIZES_IN_FOLDER = {0xA002: 0, 0xA003: 1}
"""Tags of width and height in the EXIF folder."""
_DROPPED_IN_FOLDER = (0x927C, 0xA005)
"""The maker's note and the interoperability folder: they hold places in the old file."""
_UNIT, _X_RESOLUTION, _Y_RESOLUTION, _XMP, _PROFILE = 296, 282, 283, 700, 34675
"""Where a TIFF keeps resolution (unit 2: inches), XMP and the colour profile."""
_PROFILE_SPACES = {b"GRAY": 1, b"RGB ": 3}
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
class Metadata:
    """What goes from a photograph's file to the enlarged one's."""

    icc_profile: bytes | None = None
    exif: Image.Exif = field(default_factory=Image.Exif)
    """Without orientation and thumbnail."""
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None


@dataclass(frozen=True)
class PhotoFile:
    """A photograph as read."""

    photo: Photo
    metadata: Metadata
    frames: int
    """Pages or frames that the file has; the first is what was read."""


class Header(NamedTuple):
    """What can be known of a photograph without decoding it."""

    width: int
    """Upright, as the height is."""
    height: int
    deep: bool
    """Whether it has 16 bits."""


def read_header(path: Path) -> Header:
    """Raises UserError as `read_photo` does."""
    with reading(str(path)), Image.open(path) as image:
        width, height = image.size
        deep = image.mode.startswith("I") or has_deep_colours(image)
        sideways = image.getexif().get(_ORIENTATION) in _SIDEWAYS
        return Header(height, width, deep) if sideways else Header(width, height, deep)


def read_photo(source: Path | bytes, max_pixels: int = MAX_PIXELS) -> PhotoFile:
    """Reads a file, or the content of one (called standard input in errors).

    CMYK becomes RGB by way of its profile where it has one; 16 bits are kept of gray, RGB and RGBA
    in PNGs and TIFFs. Raises UserError, in one line, for
    what is missing, no image, truncated, larger than `max_pixels` (checked before its pixels are
    decoded) or of pixels without a meaning as RGB.
    """
    name = str(source) if isinstance(source, Path) else "standard input"
    with reading(name, max_pixels), _opened(source) as image:
        refuse_larger(name, image, max_pixels)
        deep = has_deep_colours(image)
        frames = getattr(image, "n_frames", 1)
        image.load()
        info = dict(image.info)
        exif = image.getexif()
        upright = ImageOps.exif_transpose(image)
        profile = info.get("icc_profile")
        if upright.mode == "CMYK":
            upright, profile = _cmyk_to_rgb(upright, profile), None
        if deep:
            with _opened(source) as lower:
                keep_lower_bytes(lower)
                photo = deep_photo(upright, ImageOps.exif_transpose(lower))
        else:
            photo = photo_of(upright)
        if profile is not None and _PROFILE_SPACES.get(profile[16:20]) != (1 if photo.gray else 3):
            profile = None
        xmp = upright.info.get("xmp")
        metadata = Metadata(
            icc_profile=profile,
            exif=_kept_exif(exif),
            xmp=xmp.encode() if isinstance(xmp, str) else xmp,
            dpi=info.get("dpi"),
        )
        return PhotoFile(photo, metadata, frames)


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
) -> None:
    """Writes an image of `size` (width, height) that comes in bands, as of `enlarged_rows`.

    PNG and TIFF are written as the rows come, with 16 bits if they have them. The encoders of other
    formats need the whole image: it waits in a temporary file if it is large, and takes 4 bytes a
    pixel of memory while it is encoded. `quality` (1 to 100) is for formats that have one.
    """
    exif = _exif_of(metadata.exif, size)
    top_band = next(rows)
    channels = 1 if top_band.ndim == 2 else top_band.shape[2]
    if form.deep:
        start = _started_png if form.name == "png" else _started_tiff
        bits: Literal[8, 16] = 16 if top_band.dtype == np.uint16 else 8
        writer = start(file, size, channels, bits, metadata, exif)
        for band in _chained(top_band, rows):
            writer.write(band)
        if isinstance(writer, PngWriter):
            writer.finish()
        return
    options: dict[str, Any] = {"exif": exif, "dpi": metadata.dpi}
    profile = metadata.icc_profile
    if profile is not None and (channels > 2 or form.gray):
        options["icc_profile"] = profile
    if form.lossy:
        options["quality"] = 95 if quality is None else quality
    if form.name == "jpeg":
        options["subsampling"] = 0 if options["quality"] >= 90 else 2
    if metadata.xmp is not None:
        options["xmp"] = metadata.xmp
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


def _started_png(
    file: BinaryIO,
    size: tuple[int, int],
    channels: int,
    bits: Literal[8, 16],
    metadata: Metadata,
    exif: bytes | None,
) -> PngWriter:
    png = PngWriter(file, *size, channels, bits=bits)
    if metadata.icc_profile is not None:
        png.chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata.icc_profile))
    if metadata.dpi is not None:
        metre = [round(float(value) / 0.0254) for value in metadata.dpi]
        if all(0 < value < 2**31 for value in metre):
            png.chunk(b"pHYs", struct.pack(">IIB", *metre, 1))
    if metadata.xmp is not None:
        png.chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + metadata.xmp)
    if exif is not None:
        png.chunk(b"eXIf", exif.removeprefix(b"Exif\0\0"))
    return png


def _started_tiff(
    file: BinaryIO,
    size: tuple[int, int],
    channels: int,
    bits: Literal[8, 16],
    metadata: Metadata,
    exif: bytes | None,
) -> TiffWriter:
    tags: dict[int, Any] = {}
    if exif is not None:
        held = Image.Exif()
        held.load(exif)
        tags = {tag: held.get_ifd(tag) if tag in _KEPT_FOLDERS else held[tag] for tag in held}
    if metadata.dpi is not None:
        tags[_UNIT] = 2
        tags[_X_RESOLUTION], tags[_Y_RESOLUTION] = metadata.dpi
    if metadata.xmp is not None:
        tags[_XMP] = metadata.xmp
    if metadata.icc_profile is not None:
        tags[_PROFILE] = metadata.icc_profile
    return TiffWriter(file, *size, channels, tags, bits=bits)


def _chained(first: Pixels, rest: Iterator[Pixels]) -> Iterator[Pixels]:
    yield first
    yield from rest


def _kept_exif(exif: Image.Exif) -> Image.Exif:
    kept = Image.Exif()
    for tag in _KEPT_EXIF:
        if tag in exif:
            kept[tag] = exif[tag]
    for tag in _KEPT_FOLDERS:
        folder = {
            key: value for key, value in exif.get_ifd(tag).items() if key not in _DROPPED_IN_FOLDER
        }
        if folder:
            kept[tag] = folder
    return kept


def _exif_of(exif: Image.Exif, size: tuple[int, int]) -> bytes | None:
    """EXIF of the enlarged image: with its size where a size was said; None where it is empty."""
    folder = exif.get(_EXIF_FOLDER, {})
    for tag, axis in _SIZES_IN_FOLDER.items():
        if tag in folder:
            folder[tag] = size[axis]
    return exif.tobytes() if len(exif) else None


def _cmyk_to_rgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    if profile is None:
        return image.convert("RGB")
    try:
        converted = ImageCms.profileToProfile(
            image,
            ImageCms.ImageCmsProfile(BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            outputMode="RGB",
        )
    except (ImageCms.PyCMSError, OSError):  # a broken profile, or one of another colour space
        converted = None
    return image.convert("RGB") if converted is None else converted
