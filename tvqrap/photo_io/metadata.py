"""What goes from a photograph's file to the enlarged one's beside pixels, and what is left out.

Files hold odd metadata: none of it may cost the picture. What cannot be read or written is left out
and named.
"""

import math
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from PIL import ExifTags, Image, TiffImagePlugin

from tvqrap.photo_io.photo import profile_after

_EXIF_FOLDER, _GPS_FOLDER = 0x8769, 0x8825
_PROCESSING_SOFTWARE = 0x000B
_KEPT_EXIF = (
    *(0x010E, 0x010F, 0x0110, 0x0131, 0x0132),  # description, make, model, software, time
    *(0x013B, 0x8298),  # artist, copyright
    *range(0x9C9B, 0x9CA0),  # title, comment, author, keywords, subject, as Windows has them
)
"""Tags of the main EXIF folder that hold of the enlarged image; others tell of the old file."""
KEPT_FOLDERS = (_EXIF_FOLDER, _GPS_FOLDER)
"""The EXIF folder proper and the place (GPS)."""
_SIZES_IN_FOLDER = {0xA002: 0, 0xA003: 1}
"""Tags of width and height in the EXIF folder."""
_DROPPED_IN_FOLDER = (0x927C, 0xA005)
"""The maker's note and the interoperability folder: they hold places in the old file."""
_X_RESOLUTION, _IPTC_OF_TIFF, _IPTC_OF_PHOTOSHOP = 282, 33723, 0x0404
_LARGEST_DPI = 65535
_XMP_ORIENTATIONS = (
    rb"""tiff:Orientation\s*=\s*("[^"]*"|'[^']*')""",
    rb"<tiff:Orientation\b[^>]*>[^<]*</tiff:Orientation\s*>",
)
"""An attribute and an element: the enlarged image is upright."""
_OTHER_TEXTS = ("XML:com.adobe.xmp", "Raw profile type ")
"""Beginnings of PNG keywords under which other metadata, read already, is kept as text."""


class _Entry(NamedTuple):
    """One tag of EXIF."""

    folder: int | None
    """None in the main one."""
    tag: int
    value: Any

    @property
    def name(self) -> str:
        names = ExifTags.GPSTAGS if self.folder == _GPS_FOLDER else ExifTags.TAGS
        return f"EXIF {names.get(self.tag, f'tag {self.tag}')}"


@dataclass(frozen=True)
class Metadata:
    """What goes from a photograph's file to the enlarged one's."""

    icc_profile: bytes | None = None
    exif: Image.Exif = field(default_factory=Image.Exif)
    """Without orientation and thumbnail."""
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    """Finite, over 0."""
    comment: bytes | None = None
    """A JPEG's, in no certain encoding."""
    text: Mapping[str, str] = field(default_factory=dict)
    """A PNG's, by keyword."""
    iptc: bytes | None = None
    gamma: float | None = None
    """What a PNG says of its colours without a profile, as the next two: file gamma (0.45455)."""
    chromaticity: tuple[float, ...] | None = None
    """x and y of white, red, green and blue."""
    srgb: int | None = None
    """Rendering intent, where the colours are sRGB's."""
    cicp: bytes | None = None
    """Numbers of a PNG's colour space (cICP), for high dynamic range say."""


def metadata_of(image: Image.Image, gray: bool) -> tuple[Metadata, list[str]]:
    """What an image, opened and loaded, carries; and the names of what is left out of it.

    `gray` is whether the enlarged image is, and so what a colour profile has to be of.
    """
    left_out: list[str] = []
    info = image.info

    def held(name: str, value: Any, valid: bool) -> Any:
        if value is None or valid:
            return value
        left_out.append(name)
        return None

    profile = info.get("icc_profile")
    kept_profile = profile_after(image, gray)
    held("colour profile", profile, kept_profile is not None or image.mode == "CMYK")
    xmp = info.get("xmp")
    if isinstance(xmp, str):
        xmp = xmp.encode(errors="replace")
    xmp = held("XMP", xmp, isinstance(xmp, bytes))
    if xmp is not None:
        for pattern in _XMP_ORIENTATIONS:
            xmp = re.sub(pattern, b"", xmp)
    dpi = None if _without_resolution(image) else info.get("dpi")
    comment = info.get("comment")
    text = getattr(image, "text", {}) if image.format == "PNG" else {}
    cicp = info.get("cicp")
    gamma, chromaticity, srgb = info.get("gamma"), info.get("chromaticity"), info.get("srgb")
    metadata = Metadata(
        icc_profile=kept_profile,
        exif=_kept_exif(image, left_out),
        xmp=xmp,
        dpi=held("resolution", _numbers(dpi), _are_within(dpi, 2, _LARGEST_DPI)),
        comment=comment if isinstance(comment, bytes) else None,
        text={key: str(value) for key, value in text.items() if not key.startswith(_OTHER_TEXTS)},
        iptc=_iptc(image, left_out),
        gamma=gamma if _are_within((gamma,), 1, 20000) else None,
        chromaticity=_numbers(chromaticity) if _are_within(chromaticity, 8, 20000) else None,
        srgb=srgb if isinstance(srgb, int) and 0 <= srgb <= 3 else None,
        cicp=held("colour space (cICP)", cicp, isinstance(cicp, bytes) and len(cicp) == 4),
    )
    return metadata, left_out


def signed(metadata: Metadata, line: str) -> Metadata:
    """The metadata with a line (ASCII) in EXIF that says what made the image."""
    return replace(
        metadata, exif=_exif([*_entries(metadata.exif), _Entry(None, _PROCESSING_SOFTWARE, line)])
    )


def signature(image: Image.Image) -> str | None:
    """The line of `signed`, of an image that may not be loaded yet; None where it has none."""
    try:
        # The PNG reader's own getexif decodes all pixels where no EXIF lies in front of them.
        line = Image.Image.getexif(image).get(_PROCESSING_SOFTWARE)
    except Exception:  # Pillow fails in any way at all on broken EXIF
        return None
    return line if isinstance(line, str) else None


def exif_bytes(
    metadata: Metadata, size: tuple[int, int], largest: float, left_out: list[str]
) -> bytes | None:
    """EXIF of an enlarged image of `size` (width, height), None where it is empty.

    Its tags of the size, where it has them, are set; the largest tags are left out, and named in
    `left_out`, where it would be longer than `largest` bytes.
    """
    entries = []
    for entry in _entries(metadata.exif):
        if entry.folder == _EXIF_FOLDER and entry.tag in _SIZES_IN_FOLDER:
            entry = entry._replace(value=size[_SIZES_IN_FOLDER[entry.tag]])
        entries.append(entry)
    whole = _exif(entries).tobytes()
    if len(whole) > largest:
        entries.sort(key=lambda entry: len(_exif([entry]).tobytes()))
        while len(whole) > largest:
            left_out.append(entries.pop().name)
            whole = _exif(entries).tobytes()
    return whole if entries else None


def _entries(exif: Image.Exif) -> Iterator[_Entry]:
    for tag in exif:
        if tag in KEPT_FOLDERS:
            yield from (_Entry(tag, key, value) for key, value in exif[tag].items())
        else:
            yield _Entry(None, tag, exif[tag])


def _exif(entries: list[_Entry]) -> Image.Exif:
    exif = Image.Exif()
    for folder, tag, value in entries:
        if folder is None:
            exif[tag] = value
        else:
            exif[folder] = {**exif.get(folder, {}), tag: value}
    return exif


def _kept_exif(image: Image.Image, left_out: list[str]) -> Image.Exif:
    kept: list[_Entry] = []
    try:
        exif = image.getexif()
    except Exception:  # as above
        left_out.append("EXIF")
        return Image.Exif()
    for tag in _KEPT_EXIF:
        if tag in exif:
            try:
                kept.append(_Entry(None, tag, exif[tag]))
            except Exception:
                left_out.append(_Entry(None, tag, None).name)
    for folder in KEPT_FOLDERS:
        try:
            found = exif.get_ifd(folder)
        except Exception:
            left_out.append("EXIF place" if folder == _GPS_FOLDER else "EXIF details")
            continue
        kept += [
            _Entry(folder, tag, value)
            for tag, value in found.items()
            if tag not in _DROPPED_IN_FOLDER
        ]
    writable = []
    for entry in kept:
        if _can_be_written(entry):
            writable.append(entry)
        else:
            left_out.append(entry.name)
    return _exif(writable)


def _can_be_written(entry: _Entry) -> bool:
    """Whether Pillow, which goes by a tag's usual type, can write this value, and read it back."""
    try:
        again = Image.Exif()
        again.load(_exif([entry]).tobytes())
        tags = tiff_tags(again)
        found = entry.tag in (tags if entry.folder is None else tags[entry.folder])
        directory = TiffImagePlugin.ImageFileDirectory_v2()
        for tag, value in tags.items():
            directory[tag] = value
        directory.tobytes()
    except Exception:
        return False
    return found


def tiff_tags(exif: Image.Exif) -> dict[int, Any]:
    """EXIF as the tags of a TIFF, by number; a dict is a folder of its own."""
    return {tag: exif.get_ifd(tag) if tag in KEPT_FOLDERS else exif[tag] for tag in exif}


def _without_resolution(image: Image.Image) -> bool:
    """Whether it is a TIFF that says nothing of a resolution; Pillow takes 1 dpi for that."""
    tags = getattr(image, "tag_v2", None)
    return tags is not None and _X_RESOLUTION not in tags


def _iptc(image: Image.Image, left_out: list[str]) -> bytes | None:
    resources = image.info.get("photoshop")
    found = resources.get(_IPTC_OF_PHOTOSHOP) if isinstance(resources, dict) else None
    tags = getattr(image, "tag_v2", None)
    if found is None and tags is not None:
        found = tags.get(_IPTC_OF_TIFF)
        try:
            if isinstance(found, tuple):  # bytes that some writers call 32-bit numbers
                found = struct.pack(f"{tags._endian}{len(found)}I", *found)
        except struct.error:
            pass
    # Each of its records begins with this byte.
    if found and not (isinstance(found, bytes) and found[:1] == b"\x1c"):
        left_out.append("IPTC")
        return None
    return found or None


def _numbers(values: Any) -> tuple[Any, ...] | None:
    """As floats; what is wrong with them is left for `_are_within` to find."""
    try:
        return None if values is None else tuple(float(value) for value in values)
    except (TypeError, ValueError, ArithmeticError):
        return ()


def _are_within(values: Any, count: int, largest: float) -> bool:
    """Whether they are so many numbers, finite, over 0 and no larger."""
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError, ArithmeticError):
        return False
    return len(numbers) == count and all(
        math.isfinite(value) and 0 < value <= largest for value in numbers
    )
