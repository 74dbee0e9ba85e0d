"""Image files written by hand, of kinds that Pillow does not write."""

import struct
import zlib
from pathlib import Path

import numpy as np


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of these chunks and its end."""
    packed = [_chunk(name, content) for name, content in (*chunks, (b"IEND", b""))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def png_with(content: bytes, name: bytes, text: bytes, *, before: bytes) -> bytes:
    """A PNG with one more chunk, before the first one of the name `before`."""
    place = content.index(before) - 4
    return content[:place] + _chunk(name, text) + content[place:]


def _chunk(name: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def raw_profile(kind: str, content: bytes) -> bytes:
    """The content of a tEXt chunk of a PNG in which ImageMagick keeps other metadata."""
    text = f"Raw profile type {kind}\0\n{kind}\n{len(content):8}\n{content.hex()}\n"
    return text.encode()


def tiff_of_pages(count: int) -> bytes:
    """Pages of one gray pixel, all the same."""
    short, long = 3, 4
    tags = [(256, short, 1), (257, short, 1), (258, short, 8), (259, short, 1), (262, short, 1)]
    tags += [(273, long, 8), (277, short, 1), (278, short, 1), (279, long, 1)]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    directory = struct.pack("<H", len(tags)) + entries
    first, size = 12, len(directory) + 4
    following = [*(first + size * number for number in range(1, count)), 0]
    head = b"II*\0" + struct.pack("<I", first) + b"\x80\0\0\0"
    return head + b"".join(directory + struct.pack("<I", place) for place in following)


def tiff_of_16_bits(path: Path, pixels: np.ndarray, photometric: int, planes: int = 1) -> Path:
    """Written by hand, uncompressed: (H, W) or (H, W, 3), `planes` 2 for one after the other."""
    laid = pixels if planes == 1 else np.moveaxis(pixels, -1, 0)
    data = np.ascontiguousarray(laid).astype("<u2").tobytes()
    return _tiff(path, pixels.shape, data, photometric, planes, bits=16)


def tiff_of_12_bits(path: Path, pixels: np.ndarray) -> Path:
    """Written by hand, uncompressed: gray (H, W) of an even width, two pixels in three bytes."""
    left, right = pixels[:, ::2], pixels[:, 1::2]
    packed = np.stack([left >> 4, (left & 15) << 4 | right >> 8, right & 255], axis=2)
    return _tiff(path, pixels.shape, packed.astype(np.uint8).tobytes(), 1, 1, bits=12)


def _tiff(
    path: Path, shape: tuple[int, ...], data: bytes, photometric: int, planes: int, bits: int
) -> Path:
    height, width = shape[:2]
    colours = 1 if len(shape) == 2 else shape[2]
    strips = 1 if planes == 1 else colours
    entries = 10
    extra = 8 + 2 + 12 * entries + 4
    bits_at, offsets_at = extra, extra + 2 * colours
    counts_at, data_at = offsets_at + 4 * strips, offsets_at + 8 * strips
    size = len(data) // strips

    def entry(tag: int, kind: int, count: int, value: int) -> bytes:
        return struct.pack("<HHII", tag, kind, count, value)

    alone = strips == 1
    directory = b"".join(
        [
            struct.pack("<H", entries),
            entry(256, 4, 1, width),
            entry(257, 4, 1, height),
            entry(258, 3, colours, bits if colours == 1 else bits_at),
            entry(259, 3, 1, 1),
            entry(262, 3, 1, photometric),
            entry(273, 4, strips, data_at if alone else offsets_at),
            entry(277, 3, 1, colours),
            entry(278, 4, 1, height),
            entry(279, 4, strips, size if alone else counts_at),
            entry(284, 3, 1, planes),
            struct.pack("<I", 0),
            struct.pack(f"<{colours}H", *[bits] * colours),
            struct.pack(f"<{strips}I", *(data_at + size * strip for strip in range(strips))),
            struct.pack(f"<{strips}I", *[size] * strips),
        ]
    )
    path.write_bytes(b"II*\0" + struct.pack("<I", 8) + directory + data)
    return path
