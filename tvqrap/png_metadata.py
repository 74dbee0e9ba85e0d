"""The chunks of a PNG that hold no pixels: finding its EXIF, and writing metadata."""

import struct
import zlib
from pathlib import Path

from tvqrap.photo_metadata import Metadata
from tvqrap.png_rows import PngWriter

_SIGNATURE = 8
"""Bytes before the first chunk."""
_LONGEST_KEYWORD = 79


def png_exif(path: Path) -> bytes | None:
    """The EXIF of a PNG, wherever in the file, without decoding it; None where it has none."""
    with path.open("rb") as file:
        file.seek(_SIGNATURE)
        while len(head := file.read(8)) == 8:
            length, name = struct.unpack(">I4s", head)
            if name == b"eXIf":
                return b"Exif\0\0" + file.read(length)
            file.seek(length + 4, 1)  # the checksum, too
    return None


def write_png_metadata(png: PngWriter, metadata: Metadata, exif: bytes | None) -> None:
    """Writes all metadata that PNG holds: everything but IPTC."""
    profile = metadata.icc_profile
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
