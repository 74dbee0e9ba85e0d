"""More than 8 bits per channel: what Pillow keeps, what it cuts off, and what it misreads.

Pillow has no images with 16 bits in each of several channels. It decodes such files to their upper
bytes; read a second time in the other byte order, they give their lower bytes.
"""

import sys
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, TiffImagePlugin

_NATIVE, _OTHER = ("L", "B") if sys.byteorder == "little" else ("B", "L")
_OTHER_ORDER = {"L": "B", "B": "L", "N": _OTHER}
"""The other byte order of each: little-endian, big-endian, the machine's own."""
_BITS, _PHOTOMETRIC, _CHANNELS, _PLANES, _NUMBERS = 258, 262, 277, 284, 339
"""Tags of TIFF."""
_WHITE_IS_ZERO, _ONE_BY_ONE, _SIGNED = 0, 2, 2
"""Values of these: photometric interpretation, planar configuration, sample format."""
HEAD = 2**16
"""Bytes at the beginning of a file that `stated_bits` looks at."""
_DEEP = tuple(f"{mode};16{order}" for mode in ("RGB", "RGBA") for order in _OTHER_ORDER)


class _Tile(NamedTuple):
    """A part of an image file and how Pillow's reader is to decode it."""

    codec_name: str
    extents: tuple[int, int, int, int] | None
    offset: int
    args: tuple[object, ...] | str | None


def has_deep_colours(image: Image.Image) -> bool:
    """Whether an image, opened and not loaded, has 16 bits in each of RGB or RGBA."""
    raw_modes = {_raw_mode(tile) for tile in _tiles(image)}
    return bool(raw_modes) and raw_modes <= set(_DEEP)


def has_deep_gray_and_alpha(image: Image.Image) -> bool:
    """Whether an image, opened and not loaded, has 16 bits of gray and alpha: RGBA to Pillow."""
    return any(_raw_mode(tile).startswith("LA;16") for tile in _tiles(image))


def stated_bits(image: Image.Image, head: bytes) -> int:
    """Bits per channel that a file states, whose image is opened and not loaded; 8 if unknown.

    `head` is the beginning of the file (`HEAD` bytes), for formats of which Pillow does not tell.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return max((8, *image.tag_v2.get(_BITS, ())))
    if image.format == "AVIF":
        place = head.find(b"av1C")
        flags = head[place + 6] if 0 <= place < len(head) - 6 else 0
        return 8 if not flags & 0x40 else 12 if flags & 0x20 else 10
    if image.format == "JPEG2000":
        place = head.find(b"ihdr")
        return (head[place + 14] & 0x7F) + 1 if 0 <= place < len(head) - 14 else 8
    if image.format == "PPM":
        values = [tile.args for tile in _tiles(image)[:1]]
        largest = values[0][-1] if values and isinstance(values[0], tuple) else None
        return 16 if isinstance(largest, int) and largest > 255 else 8
    if image.format == "HEIF":
        bits = image.info.get("bit_depth")
        return bits if isinstance(bits, int) else 8
    deep = image.mode.startswith("I") or any(";16" in _raw_mode(tile) for tile in _tiles(image))
    return 16 if deep else 8


def deep_colours(upper: Image.Image, lower: Image.Image) -> NDArray[np.uint16]:
    """Combines upper and lower bytes, as RGB or RGBA images, to (H, W, 3) or (H, W, 4).

    The transparent colour of a PNG becomes alpha.
    """
    pixels: NDArray[np.uint16] = np.asarray(upper).astype(np.uint16)
    pixels <<= 8
    pixels |= np.asarray(lower)
    alpha = keyed_alpha(pixels, upper.info.get("transparency")) if upper.mode == "RGB" else None
    return pixels if alpha is None else np.dstack([pixels, alpha])


def keyed_alpha(pixels: NDArray[np.uint16], key: object) -> NDArray[np.uint16] | None:
    """Alpha (H, W) of an image (H, W, C) of which one colour, a PNG's `key`, is transparent."""
    if not isinstance(key, int | tuple):
        return None
    hidden = (pixels == np.array(key)).all(axis=2)
    return np.where(hidden, 0, 65535).astype(np.uint16)


def eight_bits(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Levels of 16 bits rounded to the nearest of 8 bits (1/257); 8 bits as they are."""
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    # x / 257 in whole numbers: floating-point ones would take twice the memory.
    return ((pixels.astype(np.uint32) * np.uint32(255) + np.uint32(32895)) >> 16).astype(np.uint8)


def check_readable(image: Image.Image) -> None:
    """Raises ValueError for an image, opened and not loaded, that Pillow misreads.

    Pillow decodes 16-bit colours in separate planes as if a plane had 8 bits, and signed bytes as
    if they had no sign.
    """
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return
    tags = image.tag_v2
    bits = max(tags.get(_BITS, (1,)), default=1)
    if bits > 8 and tags.get(_PLANES) == _ONE_BY_ONE and tags.get(_CHANNELS, 1) > 1:
        raise ValueError("16-bit colours in separate planes, expected them pixel by pixel")
    if bits == 8 and _SIGNED in tags.get(_NUMBERS, ()):
        raise ValueError("signed bytes, expected levels from 0")


def as_meant(image: Image.Image) -> Image.Image:
    """The picture of a TIFF of which Pillow gives other levels; takes a loaded image.

    16-bit gray in which 0 is white is inverted, as Pillow inverts 8-bit gray. 12-bit gray is spread
    over 16 bits. Gray that is multiplied by its alpha is divided again, as Pillow does with
    colours. All other images stay as they are.
    """
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return image
    if image.mode == "La":
        return image.convert("LA")
    if not image.mode.startswith("I;16"):
        return image
    levels = np.asarray(image).astype(np.uint16)
    if image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        return Image.fromarray(65535 - levels)
    if max(image.tag_v2.get(_BITS, (16,)), default=16) == 12:
        return Image.fromarray((levels << 4) | (levels >> 8))
    return image


def keep_lower_bytes(image: Image.Image) -> None:
    """Makes an image with 16-bit colours, opened and not loaded, decode to their lower bytes.

    In the other byte order, the lower byte of each pair is the upper one.
    """
    assert isinstance(image, ImageFile.ImageFile)
    swapped: list[Any] = []
    for tile in _tiles(image):
        raw_mode = _raw_mode(tile)
        raw_mode = raw_mode[:-1] + _OTHER_ORDER[raw_mode[-1]]
        args = raw_mode if isinstance(tile.args, str) else (raw_mode, *(tile.args or ())[1:])
        swapped.append(tile._replace(args=args))
    image.tile = swapped


def _tiles(image: Image.Image) -> list[_Tile]:
    return [_Tile(*tile) for tile in image.tile] if isinstance(image, ImageFile.ImageFile) else []


def _raw_mode(tile: _Tile) -> str:
    first = tile.args if isinstance(tile.args, str) else (tile.args or ("",))[0]
    return first if isinstance(first, str) else ""
