"""Photographs in files: what is read of one beside its pixels, and how an enlarged one is written.

Colour profile, EXIF, XMP and resolution go along; the orientation is applied and taken out.
"""

import struct
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from tvqrap.errors import UserError
from tvqrap.images import MAX_PIXELS
from tvqrap.photo import Photo, photo_of
from tvqrap.png_rows import PngWriter

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
    lossy: bool = False
    """Whether it has a quality."""


FORMATS = {
    "png": Format("png", (".png",), 2**31 - 1),
    # The format ends at 65535; libjpeg, which writes it, at 65500.
    "jpeg": Format("jpeg", (".jpg", ".jpeg"), 65500, alpha=False, lossy=True),
    "webp": Format("webp", (".webp",), 16383, gray=False, lossy=True),
    "tiff": Format("tiff", (".tif", ".tiff"), 2**31 - 1, largest_bytes=2**32 - 2**20),
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


def photo_size(path: Path) -> tuple[int, int]:
    """Width and height, upright, from the header alone; raises UserError as `read_photo` does."""
    with _named_errors(str(path)), Image.open(path) as image:
        width, height = image.size
        return (height, width) if image.getexif().get(_ORIENTATION) in _SIDEWAYS else image.size


def read_photo(source: Path | bytes, max_pixels: int = MAX_PIXELS) -> PhotoFile:
    """Reads a file, or the content of one (called standard input in errors).

    CMYK becomes RGB by way of its profile where it has one. Raises UserError, in one line, for
    what is missing, no image, truncated, larger than `max_pixels` (checked before its pixels are
    decoded) or of pixels without a meaning as RGB.
    """
    name = str(source) if isinstance(source, Path) else "standard input"
    with (
        _named_errors(name),
        Image.open(source if isinstance(source, Path) else BytesIO(source)) as image,
    ):
        width, height = image.size
        if width * height > max_pixels:
            raise UserError(
                f"{name}: {width}x{height} is {width * height} pixels, at most {max_pixels} are "
                "read"
            )
        frames = getattr(image, "n_frames", 1)
        image.load()
        info = dict(image.info)
        exif = image.getexif()
        upright = ImageOps.exif_transpose(image)
        profile = info.get("icc_profile")
        if upright.mode == "CMYK":
            upright, profile = _cmyk_to_rgb(upright, profile), None
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


def refuse_unholdable(name: str, form: Format, size: tuple[int, int]) -> None:
    """Raises UserError where a format cannot hold an image of `size` (width, height).

    `name` is the photograph's, for the message.
    """
    width, height = size
    if max(size) > form.largest_side:
        raise UserError(
            f"{name}: would be {width}x{height}, {form.name} holds sides up to "
            f"{form.largest_side} (png holds more)"
        )
    if 4 * width * height > form.largest_bytes:
        raise UserError(
            f"{name}: would be {width}x{height}, {form.name} holds files up to 4 GB (png is "
            "compressed)"
        )


def write_photo(
    file: BinaryIO,
    form: Format,
    rows: Iterator[NDArray[np.uint8]],
    size: tuple[int, int],
    metadata: Metadata,
    quality: int | None = None,
) -> None:
    """Writes an image of `size` (width, height) that comes in bands, as of `enlarged_rows`.

    A PNG is written as the rows come. The encoders of other formats need the whole image: it waits
    in a temporary file if it is large, and takes 4 bytes a pixel of memory while it is encoded.
    `quality` (1 to 100) is for formats that have one.
    """
    exif = _exif_of(metadata.exif, size)
    first = next(rows)
    channels = 1 if first.ndim == 2 else first.shape[2]
    if form.name == "png":
        _write_png(file, first, rows, size, channels, metadata, exif)
        return
    options: dict[str, Any] = {"exif": exif, "dpi": metadata.dpi}
    profile = metadata.icc_profile
    if profile is not None and (channels > 2 or form.gray):
        options["icc_profile"] = profile
    if form.lossy:
        options["quality"] = 95 if quality is None else quality
    if form.name == "jpeg":
        options["subsampling"] = 0 if options["quality"] >= 90 else 2
    if form.name != "tiff" and metadata.xmp is not None:
        options["xmp"] = metadata.xmp
    shape = (size[1], size[0]) if first.ndim == 2 else (size[1], size[0], channels)
    with tempfile.TemporaryFile() as waiting:
        whole: NDArray[np.uint8]
        if first[0].nbytes * size[1] > _HELD_IN_MEMORY:
            whole = np.memmap(waiting, np.uint8, "w+", shape=shape)
        else:
            whole = np.empty(shape, np.uint8)
        top = 0
        for band in _chained(first, rows):
            whole[top : top + len(band)] = band
            top += len(band)
        image = Image.fromarray(whole)
        del whole
        if channels in (2, 4) and not form.alpha:
            white = Image.new("RGBA", size, "white")
            white.alpha_composite(image.convert("RGBA"))
            image = white.convert("RGB" if channels == 4 else "L")
        image.save(file, form.name, **{k: v for k, v in options.items() if v is not None})


def _write_png(
    file: BinaryIO,
    first: NDArray[np.uint8],
    rows: Iterator[NDArray[np.uint8]],
    size: tuple[int, int],
    channels: int,
    metadata: Metadata,
    exif: bytes | None,
) -> None:
    png = PngWriter(file, *size, channels)
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
    for band in _chained(first, rows):
        png.write(band)
    png.finish()


def _chained(
    first: NDArray[np.uint8], rest: Iterator[NDArray[np.uint8]]
) -> Iterator[NDArray[np.uint8]]:
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


@contextmanager
def _named_errors(name: str) -> Iterator[None]:
    """Turns what Pillow raises while it reads `name` into a UserError of one line."""
    try:
        with warnings.catch_warnings():
            # Pillow warns of large images, at a size of its own choosing, and of odd metadata.
            warnings.simplefilter("ignore")
            yield
    except FileNotFoundError:
        raise UserError(f"{name}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{name}: is a folder, expected an image") from None
    except UnidentifiedImageError:
        raise UserError(f"{name}: not an image that Pillow reads") from None
    except Image.DecompressionBombError:
        raise UserError(f"{name}: too large, at most {MAX_PIXELS} pixels are read") from None
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
        raise UserError(f"{name}: cannot be read as an image ({error})") from None
