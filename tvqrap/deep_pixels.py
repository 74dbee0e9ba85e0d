"""16-bit colours of PNG and TIFF files, of which Pillow keeps the upper bytes alone."""

import sys
from typing import NamedTuple, cast

from PIL import Image, ImageFile

_NATIVE, _OTHER = ("L", "B") if sys.byteorder == "little" else ("B", "L")
_OTHER_ORDER = {"L": "B", "B": "L", "N": _OTHER}
"""Of bytes: little-endian, big-endian, the machine's own."""
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
