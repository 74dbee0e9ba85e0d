"""Opening image files: the one place that hands a file to a decoder."""

import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageCms,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TgaImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from tvqrap.images.reading.high_bit_depth import (
    as_meant,
    check_readable,
    deep_colours,
    eight_bits,
    has_deep_colours,
    keep_lower_bytes,
    keyed_alpha,
)
from tvqrap.images.reading.orientation import orientation_of, upright
from tvqrap.runtime.bounded_file import BoundedFile
from tvqrap.runtime.errors import UserError
from tvqrap.runtime.text import printable

MAX_PIXELS = 100_000_000
"""Pixels of the largest image that is read unless a caller allows more (0.3 GB as RGB)."""

_READ = (
    PngImagePlugin.PngImageFile,
    JpegImagePlugin.JpegImageFile,
    WebPImagePlugin.WebPImageFile,
    TiffImagePlugin.TiffImageFile,
    BmpImagePlugin.BmpImageFile,
    GifImagePlugin.GifImageFile,
    AvifImagePlugin.AvifImageFile,
    Jpeg2KImagePlugin.Jpeg2KImageFile,
    PpmImagePlugin.PpmImageFile,
)
"""Pillow's readers that may see a file. Others run programs, or serve no photograph."""
_TGA = TgaImagePlugin.TgaImageFile
"""Only for files with its ending: the format has no signature."""

_SIGNATURE, _CHECKSUM = 8, 4
"""Bytes of a PNG before its first chunk, and after the content of each."""
_TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"eXIf")
"""Chunks of a PNG that may follow its pixels, and say how to turn it."""


class _Extra(NamedTuple):
    """A format that an extra of the package reads."""

    name: str
    reader: str
    """Module that registers a reader with Pillow when it is imported."""
    suffixes: tuple[str, ...]


_EXTRAS = {
    "HEIF": _Extra("heic", "pillow_heif.HeifImagePlugin", (".heic", ".heif", ".hif")),
    "JXL": _Extra("jxl", "pillow_jxl", (".jxl",)),
}
"""By Pillow's name of the format."""


@cache
def _formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are opened; those of extras where they are installed."""
    names = [reader.format for reader in _READ if reader.format is not None]
    for name, extra in _EXTRAS.items():
        with suppress(ImportError):
            import_module(extra.reader)
            names.append(name)
    return tuple(names)


@contextmanager
def open_image(source: Path | bytes, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """Opens a file, or the content of one, as an image to be decoded within the `with` block.

    Only regular files of known formats are opened. Raises UserError where it is missing, no image,
    or larger than `max_pixels`, before a pixel is decoded, and where reading it in the block fails
    in any other way. The message is one line that names the file ("standard input" for content).
    MemoryError passes.
    """
    name = printable(source) if isinstance(source, Path) else "standard input"
    suffix = source.suffix.lower() if isinstance(source, Path) else ""
    try:
        with warnings.catch_warnings(), open_stream(source) as stream:
            # Pillow warns of large images, at a size of its own choosing, and of odd metadata.
            warnings.simplefilter("ignore")
            if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
                Image.MAX_IMAGE_PIXELS = max_pixels  # Pillow knows no other way to be asked
            formats = (*_formats(), "TGA") if suffix == ".tga" else _formats()
            with Image.open(stream, formats=formats) as image:
                _check_pixels(name, image, max_pixels)
                check_readable(image)
                if isinstance(image, PngImagePlugin.PngImageFile):
                    _read_texts(image, stream)
                yield image
    except (UserError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise UserError(f"{name}: not an image of a known format{_hint(suffix)}") from None
    except Image.DecompressionBombError:
        raise UserError(f"{name}: too large, at most {max_pixels} pixels are read") from None
    except Exception as error:  # a decoder may raise anything for a damaged file
        raise UserError(f"{name}: {_failure(error)}") from None


@contextmanager
def open_stream(source: Path | bytes) -> Iterator[BinaryIO]:
    """Opens a regular file, or the content of one, to be read where the file itself says.

    Raises UserError for anything else than a regular file, OSError where it cannot be read.
    """
    if not isinstance(source, Path):
        yield BytesIO(source)
        return
    # Looked at first: merely opening a pipe waits for its other end.
    status = source.stat()
    if stat.S_ISDIR(status.st_mode):
        raise UserError(f"{printable(source)}: is a folder, expected an image")
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{printable(source)}: is not a regular file, expected an image")
    with BoundedFile(source) as file:
        yield file


def _read_texts(image: PngImagePlugin.PngImageFile, stream: BinaryIO) -> None:
    """Adds texts and EXIF that lie behind a PNG's pixels, which Pillow finds as it decodes them.

    So the orientation is known, and is the same, before and after the pixels are decoded. The
    colour space (cICP), which Pillow passes over, is added as `cicp`.
    """
    pixels = stream.tell()
    stream.seek(_SIGNATURE)
    chunks = PngImagePlugin.PngStream(stream)
    with suppress(Exception):  # decoding ends at the same fault, and names it
        while (chunk := chunks.read())[0] != b"IEND":
            name, start, length = chunk
            if name in _TEXTS:
                chunks.call(name, start, length)
            elif name == b"cICP":
                chunks.im_info.setdefault("cicp", stream.read(length))
            stream.seek(start + length + _CHECKSUM)
    image.info.update(chunks.im_info)
    stream.seek(pixels)


def _check_pixels(name: str, image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise UserError(
            f"{name}: {width}x{height} is {width * height} pixels, at most {max_pixels} are read"
        )


def _hint(suffix: str) -> str:
    """A hint by a name's ending: the extra to install, or the kinds that are read."""
    for name, extra in _EXTRAS.items():
        if suffix in extra.suffixes and name not in _formats():
            return f"; {suffix} needs the extra {extra.name} (pip install 'tvqrap[{extra.name}]')"
    if suffix in (".tif", ".tiff"):
        return "; of TIFFs, gray, RGB and CMYK of whole numbers up to 16 bits are read"
    return ""


def _failure(error: Exception) -> str:
    """An exception of a decoder or of the system, as the rest of a line."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if not isinstance(error, OSError | SyntaxError | ValueError | EOFError):
        reason = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
    return f"cannot be read as an image ({printable(reason)})"


def to_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode as 8-bit RGB.

    Transparency is laid over white; 16 bits are rounded to 8; CMYK goes by way of its profile where
    the image's info has one. Raises ValueError for pixels without a certain meaning as RGB
    (floating-point numbers, 32-bit integers beyond 16 bits).
    """
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode.startswith("I"):
        levels = deep_gray(image)
        alpha = keyed_alpha(levels[..., None], image.info.get("transparency"))
        image = Image.fromarray(eight_bits(levels))
        if alpha is not None:
            image.putalpha(Image.fromarray(eight_bits(alpha)))
    if image.mode == "F":
        raise ValueError("floating-point pixels")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return _cmyk_to_rgb(image) if image.mode == "CMYK" else image.convert("RGB")


def _cmyk_to_rgb(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if not isinstance(profile, bytes):
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


def deep_gray(image: Image.Image) -> NDArray[np.uint16]:
    """Pixels (H, W) of a gray image of integers (Pillow's modes that begin with I).

    Raises ValueError for 32-bit integers beyond 16 bits.
    """
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("32-bit pixels beyond the range of 16 bits")
    return values.astype(np.uint16)


def read_image(source: Path | bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Reads a file, or the content of one, as 8-bit RGB as by `to_rgb`, upright (EXIF orientation).

    Raises UserError as `open_image` does, and for pixels without a meaning as RGB.
    """
    with open_image(source, max_pixels) as image:
        deep, orientation = has_deep_colours(image), orientation_of(image)
        image.load()
        if deep:
            with open_image(source, max_pixels) as lower:
                keep_lower_bytes(lower)
                pixels = Image.fromarray(eight_bits(deep_colours(image, lower)))
            return to_rgb(upright(pixels, orientation))
        return to_rgb(upright(as_meant(image), orientation))
