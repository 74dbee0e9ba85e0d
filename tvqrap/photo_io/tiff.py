"""Writing a TIFF row by row, so that a large image is never held whole."""

from collections.abc import Mapping
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from PIL.TiffTags import LONG

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _MEANING, _OFFSETS = 256, 257, 258, 259, 262, 273
_CHANNELS, _ROWS, _BYTES, _PLANES, _EXTRA = 277, 278, 279, 284, 338
_STRIP = 2**16
"""Bytes that a strip holds, if a row is no longer."""


class TiffWriter:
    """Writes rows from top to bottom, uncompressed: all offsets are known at the start."""

    def __init__(
        self,
        file: BinaryIO,
        width: int,
        height: int,
        channels: int,
        tags: Mapping[int, Any],
        *,
        bits: Literal[8, 16] = 8,
    ) -> None:
        """Channels: 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha.

        `tags` are the tags of the metadata, by number; a folder of tags is a dict.
        """
        self._file = file
        row = width * channels * bits // 8
        rows = max(1, min(height, _STRIP // row))
        strips = -(-height // rows)
        folder = ImageFileDirectory_v2()
        for tag, value in tags.items():
            folder[tag] = value
        folder[_WIDTH], folder[_HEIGHT] = width, height
        folder[_BITS] = (bits,) * channels
        folder[_COMPRESSION] = 1
        folder[_MEANING] = 1 if channels < 3 else 2
        folder[_CHANNELS] = channels
        folder[_ROWS] = rows
        folder[_PLANES] = 1
        if channels in (2, 4):
            folder[_EXTRA] = 2  # alpha that the colours are not multiplied by
        folder[_OFFSETS] = tuple(range(0, strips * rows * row, rows * row))
        folder[_BYTES] = (rows * row,) * (strips - 1) + ((height - (strips - 1) * rows) * row,)
        folder.tagtype[_OFFSETS] = folder.tagtype[_BYTES] = LONG
        folder.save(file)  # adds to the offsets the place where it ends

    def write(self, rows: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
        """(rows, width) or (rows, width, channels), uint16 if the file has 16 bits, else uint8."""
        self._file.write(np.ascontiguousarray(rows, rows.dtype.newbyteorder("<")).data)
