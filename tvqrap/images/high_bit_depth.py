"""16-bit pixels of PNG and TIFF files that Pillow keeps the upper bytes of, or misreads."""

import sys
from typing import NamedTuple, cast

import numpy as np
from PIL import Image, ImageFile, TiffImagePlugin

_NATIVE, _OTHER = ("L", "B") if sys.byteorder == "little" else ("B", "L")
_OTHER_ORDER = {"L": "B", "B": "L", "N": _OTHER}
"""Of bytes: little-endian, big-endian, the machine's own."""
_BITS, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0
"""Tags of TIFF, and what the second has where white is 0."""
_DEEP = tuple(f"{mode};16{order}" for mode in ("RGB", "RGBA") for order in _OTHER_ORDER)


class _Tile(NamedTuple):
    """A part of an image file, as Pillow's readers plan to decode it."""

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


def check_readable(image: Image.Image) -> None:
    """Raises ValueError for an image, opened and not loaded, that Pillow takes for another.

    16-bit colours in planes of their own: it decodes a plane as if it had 8 bits.
    """
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return
    bits = image.tag_v2.get(_BITS, ())
    if 16 in bits and any(len(_raw_mode(tile)) == 1 for tile in _tiles(image)):
        raise ValueError("16-bit colours in separate planes, expected them pixel by pixel")


def as_meant(image: Image.Image) -> Image.Image:
    """A loaded image; 16-bit gray of which 0 is white, which Pillow reads as a negative, turned.

    Of 8 bits, Pillow turns it itself.
    """
    if not isinstance(image, TiffImagePlugin.TiffImageFile) or not image.mode.startswith("I;16"):
        return image
    if image.tag_v2.get(_PHOTOMETRIC) != _WHITE_IS_ZERO:
        return image
    return Image.fromarray(65535 - np.asarray(image).astype(np.uint16))


def keep_lower_bytes(image: Image.Image) -> None:
    """Makes an image with deep colours, opened and not loaded, give their lower bytes.

    Read in the other order of bytes, the lower byte of each pair is the upper one.
    """
    assert isinstance(image, ImageFile.ImageFile)
    swapped = []
    for tile in _tiles(image):
        raw_mode = _raw_mode(tile)
        raw_mode = raw_mode[:-1] + _OTHER_ORDER[raw_mode[-1]]
        args = raw_mode if isinstance(tile.args, str) else (raw_mode, *(tile.args or ())[1:])
        swapped.append(tile._replace(args=args))
    image.tile = cast("list[ImageFile._Tile]", swapped)


def _tiles(image: Image.Image) -> list[_Tile]:
    return [_Tile(*tile) for tile in image.tile] if isinstance(image, ImageFile.ImageFile) else []


def _raw_mode(tile: _Tile) -> str:
    first = tile.args if isinstance(tile.args, str) else (tile.args or ("",))[0]
    return first if isinstance(first, str) else ""
