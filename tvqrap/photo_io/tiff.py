"""Writing a TIFF row by row, so that a large image is never held whole."""

import itertools
import struct
import zlib
from collections.abc import Mapping
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from PIL.TiffTags import LONG

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _MEANING, _OFFSETS = 256, 257, 258, 259, 262, 273
_CHANNELS, _ROWS, _BYTES, _PLANES, _PREDICTOR, _EXTRA = 277, 278, 279, 284, 317, 338
_NONE, _DEFLATE = 1, 8
_STRIP = 2**16
"""Bytes of an uncompressed strip, which holds at least one row."""
_PACKED_STRIP = 2**20
"""Bytes of a strip before its compression: larger strips compress better."""


class TiffWriter:
    """Writes rows from top to bottom; `finish` after the last makes the file complete.

    The directory comes before uncompressed rows, whose offsets are known, and after compressed
    ones.
    """

    def __init__(
        self,
        file: BinaryIO,
        width: int,
        height: int,
        channels: int,
        tags: Mapping[int, Any],
        *,
        bits: Literal[8, 16] = 8,
        level: int = 0,
    ) -> None:
        """Channels: 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha.

        `tags` are the tags of the metadata, by number; a folder of tags is a dict. `level` is
        zlib's, 0 to 9; 0 compresses nothing. Compressed files have to be seekable.
        """
        self._file = file
        self._level = level
        self._shape = (width, channels)
        row = width * channels * bits // 8
        rows = max(1, min(height, (_PACKED_STRIP if level else _STRIP) // row))
        strips = -(-height // rows)
        self._rows = rows
        self._held: list[NDArray[Any]] = []
        self._lengths: list[int] = []
        folder = self._folder = ImageFileDirectory_v2()
        for tag, value in tags.items():
            folder[tag] = value
        folder[_WIDTH], folder[_HEIGHT] = width, height
        folder[_BITS] = (bits,) * channels
        folder[_COMPRESSION] = _DEFLATE if level else _NONE
        folder[_MEANING] = 1 if channels < 3 else 2
        folder[_CHANNELS] = channels
        folder[_ROWS] = rows
        folder[_PLANES] = 1
        if channels in (2, 4):
            folder[_EXTRA] = 2  # unassociated alpha
        folder.tagtype[_OFFSETS] = folder.tagtype[_BYTES] = LONG
        if level:
            folder[_PREDICTOR] = 2  # differences from the pixel to the left
            file.write(b"II*\0" + bytes(4))  # `finish` writes the directory's offset
        else:
            folder[_OFFSETS] = tuple(range(0, strips * rows * row, rows * row))
            folder[_BYTES] = (rows * row,) * (strips - 1) + ((height - (strips - 1) * rows) * row,)
            folder.save(file)  # adds its own end to the offsets

    def write(self, rows: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
        """(rows, width) or (rows, width, channels), uint16 if the file has 16 bits, else uint8."""
        if not self._level:
            self._file.write(np.ascontiguousarray(rows, rows.dtype.newbyteorder("<")).data)
            return
        self._held.append(rows.reshape(len(rows), *self._shape))
        while sum(map(len, self._held)) >= self._rows:
            held = np.concatenate(self._held)
            self._pack(held[: self._rows])
            self._held = [held[self._rows :]]

    def finish(self) -> None:
        """Writes what is left of a compressed file, and its directory."""
        if not self._level:
            return
        rest = np.concatenate(self._held)
        if len(rest):
            self._pack(rest)
        *starts, end = itertools.accumulate(self._lengths, initial=8)
        place = end + end % 2  # directories begin at even offsets
        self._folder[_BYTES] = tuple(self._lengths)
        self._file.write(bytes(place - end) + self._directory(place, starts))
        self._file.seek(4)
        self._file.write(struct.pack("<I", place))
        self._file.seek(0, 2)

    def _pack(self, rows: NDArray[Any]) -> None:
        moved = rows.copy()
        moved[:, 1:] -= rows[:, :-1]
        ordered = np.ascontiguousarray(moved, moved.dtype.newbyteorder("<"))
        packed = zlib.compress(ordered.tobytes(), self._level)
        self._file.write(packed)
        self._lengths.append(len(packed))

    def _directory(self, place: int, starts: list[int]) -> bytes:
        """The directory for the offset `place` of the file, with the offsets of the strips."""
        self._folder[_OFFSETS] = (0,) * len(starts)
        packed = bytearray(self._folder.tobytes(place))
        # Pillow's offsets count from the end of the directory; ours stand before it.
        (entries,) = struct.unpack_from("<H", packed)
        for entry in range(2, 2 + 12 * entries, 12):
            tag, _, count, value = struct.unpack_from("<HHII", packed, entry)
            if tag == _OFFSETS:
                at = entry + 8 if count == 1 else value - place
                struct.pack_into(f"<{count}I", packed, at, *starts)
        return bytes(packed)
