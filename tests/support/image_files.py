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
    directory = _directory(tags)
    first, size = 12, len(directory) + 4
    following = [*(first + size * number for number in range(1, count)), 0]
    head = b"II*\0" + struct.pack("<I", first) + b"\x80\0\0\0"
    return head + b"".join(directory + struct.pack("<I", place) for place in following)


def tiff_of_12_bits(path: Path, pixels: np.ndarray) -> Path:
    """Uncompressed: gray (H, W) of an even width, two pixels in three bytes."""
    (height, width), short, long = pixels.shape, 3, 4
    left, right = pixels[:, ::2], pixels[:, 1::2]
    packed = np.stack([left >> 4, (left & 15) << 4 | right >> 8, right & 255], axis=2)
    data = packed.astype(np.uint8).tobytes()
    tags = [(256, long, width), (257, long, height), (258, short, 12), (259, short, 1)]
    tags += [(262, short, 1), (273, long, 8), (277, short, 1), (278, long, height)]
    directory = _directory([*tags, (279, long, len(data))]) + bytes(4)
    head = b"II*\0" + struct.pack("<I", 8 + len(data))
    path.write_bytes(head + data + directory)
    return path


def _directory(tags: list[tuple[int, int, int]]) -> bytes:
    """(number, type, value) of each tag; the place of the next directory follows."""
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return struct.pack("<H", len(tags)) + entries
