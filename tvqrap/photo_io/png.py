"""Writing a PNG row by row, so that a large image is never held whole."""

import struct
import zlib
from fractions import Fraction
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from tvqrap.photo_io.metadata import Metadata

_COLOUR_TYPES = {1: 0, 3: 2, 2: 4, 4: 6}
"""PNG's number for gray, RGB, gray with alpha, RGB with alpha, by channels."""
_CHUNK = 2**22
"""Bytes that are filtered at a time."""


_LARGEST_DELAY = 2**16 - 1
"""Largest numerator and denominator of a frame's duration in seconds."""


class PngWriter:
    """Writes rows from top to bottom; `finish` after the last makes the file complete.

    For an animation (APNG), `animate` comes before the first row, and `start_frame` before the
    rows of each frame.
    """

    def __init__(
        self,
        file: BinaryIO,
        width: int,
        height: int,
        channels: int,
        *,
        bits: Literal[8, 16] = 8,
        level: int = 6,
    ) -> None:
        """Channels: 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha. `level` is zlib's, 0 to 9."""
        self._file = file
        self._size = width, height
        self._level = level
        self._frames = self._sequence = 0
        self._pixel = channels * bits // 8
        self._row = width * self._pixel
        self._above = np.zeros(self._row, np.uint8)
        self._packer = zlib.compressobj(level)
        file.write(b"\x89PNG\r\n\x1a\n")
        colour_type = _COLOUR_TYPES[channels]
        self.chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0))

    def chunk(self, name: bytes, content: bytes) -> None:
        """Writes one chunk of metadata; has to come before the first row."""
        checksum = zlib.crc32(content, zlib.crc32(name))
        self._file.write(struct.pack(">I", len(content)) + name + content)
        self._file.write(struct.pack(">I", checksum))

    def animate(self, frames: int, plays: int) -> None:
        """Announces the number of frames and how often they are shown (0 for ever)."""
        self.chunk(b"acTL", struct.pack(">II", frames, plays))

    def start_frame(self, duration: float) -> None:
        """Begins a frame, which replaces the one before, of a duration in milliseconds."""
        if self._frames:
            self._data(self._packer.flush())
            self._packer = zlib.compressobj(self._level)
            self._above = np.zeros(self._row, np.uint8)
        self._frames += 1
        delay = _delay(duration)
        times = struct.pack(">HHBB", delay.numerator, delay.denominator, 0, 0)
        self.chunk(b"fcTL", self._number() + struct.pack(">IIII", *self._size, 0, 0) + times)

    def _number(self) -> bytes:
        """The next number in the sequence of the chunks of frames."""
        self._sequence += 1
        return struct.pack(">I", self._sequence - 1)

    def _data(self, packed: bytes) -> None:
        if self._frames > 1:
            self.chunk(b"fdAT", self._number() + packed)
        else:
            self.chunk(b"IDAT", packed)

    def write(self, rows: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
        """(rows, width) or (rows, width, channels), uint16 if the file has 16 bits, else uint8."""
        # PNG has the upper byte first, and filters bytes.
        ordered = np.ascontiguousarray(rows, rows.dtype.newbyteorder(">"))
        flat = ordered.reshape(len(rows), -1).view(np.uint8)
        step = max(1, _CHUNK // self._row)
        for top in range(0, len(flat), step):
            part = flat[top : top + step]
            packed = self._packer.compress(self._filtered(part).tobytes())
            if packed:
                self._data(packed)
            self._above = part[-1].copy()

    def finish(self) -> None:
        """Writes the last compressed bytes and the end of the file."""
        self._data(self._packer.flush())
        self.chunk(b"IEND", b"")

    def _filtered(self, rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Filters each row by the filter with the least sum, and puts the filter's number first.

        PNG's filters are Sub (1), Up (2) and Paeth (4). They take the difference from the pixel to
        the left, above, and the nearest of left, above and left + above - left above.
        """
        above = np.vstack([self._above, rows[:-1]])
        left, corner = self._moved(rows), self._moved(above)
        a, b, c = left.astype(np.int16), above.astype(np.int16), corner.astype(np.int16)
        to_a, to_b, to_c = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
        paeth = np.where(
            (to_a <= to_b) & (to_a <= to_c), left, np.where(to_b <= to_c, above, corner)
        )
        candidates = np.stack([rows - left, rows - above, rows - paeth])
        # As in libpng, differences count as signed bytes: the least sum compresses well.
        left_over = np.abs(candidates.view(np.int8).astype(np.int16)).sum(2, dtype=np.int64)
        best = left_over.argmin(0)
        numbers = np.array([1, 2, 4], np.uint8)[best]
        return np.concatenate([numbers[:, None], candidates[best, np.arange(len(rows))]], axis=1)

    def _moved(self, rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Each pixel's left neighbour, 0 at the border."""
        moved = np.zeros_like(rows)
        moved[:, self._pixel :] = rows[:, : -self._pixel]
        return moved


def _delay(duration: float) -> Fraction:
    """Milliseconds as the nearest fraction of a second that a frame can have."""
    seconds = min(duration / 1000, _LARGEST_DELAY)
    most = min(_LARGEST_DELAY, int(_LARGEST_DELAY / max(seconds, 1)))
    return Fraction(seconds).limit_denominator(max(1, most))


_LONGEST_KEYWORD = 79


def write_png_metadata(png: PngWriter, metadata: Metadata, exif: bytes | None) -> None:
    """Writes all metadata that PNG can hold: all but IPTC."""
    profile = metadata.icc_profile
    if metadata.cicp is not None:
        png.chunk(b"cICP", metadata.cicp)
    if metadata.gamma is not None:
        png.chunk(b"gAMA", _hundred_thousandths(metadata.gamma))
    if metadata.chromaticity is not None:
        png.chunk(b"cHRM", _hundred_thousandths(*metadata.chromaticity))
    if profile is not None:
        png.chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(profile))
    elif metadata.srgb is not None:
        png.chunk(b"sRGB", bytes([metadata.srgb]))
    if metadata.dpi is not None:
        metre = [round(value / 0.0254) for value in metadata.dpi]
        if min(metre) > 0:
            png.chunk(b"pHYs", struct.pack(">IIB", *metre, 1))
    if metadata.xmp is not None:
        png.chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + metadata.xmp)
    text = dict(metadata.text)
    if metadata.comment is not None:
        text.setdefault("Comment", _decoded(metadata.comment))
    for keyword, value in text.items():
        _write_text(png, keyword, value)
    if exif is not None:
        png.chunk(b"eXIf", exif.removeprefix(b"Exif\0\0"))


def _write_text(png: PngWriter, keyword: str, value: str) -> None:
    name = keyword.encode("latin-1", "replace")[:_LONGEST_KEYWORD]
    if not name or b"\0" in name:
        return
    value = value.replace("\0", " ")
    try:
        png.chunk(b"tEXt", name + b"\0" + value.encode("latin-1"))
    except UnicodeEncodeError:
        png.chunk(b"iTXt", name + b"\0\0\0\0\0" + value.encode(errors="replace"))


def _decoded(comment: bytes) -> str:
    try:
        return comment.decode()
    except UnicodeDecodeError:
        return comment.decode("latin-1")


def _hundred_thousandths(*values: float) -> bytes:
    return struct.pack(f">{len(values)}I", *(round(value * 100_000) for value in values))
