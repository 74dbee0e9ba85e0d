"""Metadata that the enlarged photograph takes over from its source.

Broken metadata does not stop the upscaling: entries that cannot be read or written are left out and
named.
"""

import math
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from PIL import ExifTags, Image, TiffImagePlugin

from tvqrap.photo_io.photo import profile_after
from tvqrap.runtime.text import printable

_EXIF_FOLDER, _GPS_FOLDER = 0x8769, 0x8825
_PROCESSING_SOFTWARE = 0x000B
_KEPT_EXIF = (
    *(0x010E, 0x010F, 0x0110, 0x0131, 0x0132),  # description, make, model, software, time
    *(0x013B, 0x8298),  # artist, copyright
    *range(0x9C9B, 0x9CA0),  # title, comment, author, keywords, subject, as Windows has them
)
"""Tags of the main EXIF folder that hold for the enlarged image; others describe the old file."""
KEPT_FOLDERS = (_EXIF_FOLDER, _GPS_FOLDER)
"""The EXIF folders of the exposure and of GPS."""
_SIZES_IN_FOLDER = {0xA002: 0, 0xA003: 1}
"""Tags of width and height in the EXIF folder."""
_DROPPED_IN_FOLDER = (0x927C, 0xA005)
"""The maker's note and the interoperability folder: they hold places in the old file."""
_X_RESOLUTION, _IPTC_OF_TIFF, _IPTC_OF_PHOTOSHOP = 282, 33723, 0x0404
_RESOURCE_OF_IPTC = b"8BIM\x04\x04\0\0"
"""What stands before the length of IPTC among the resources of Photoshop."""
_LARGEST_DPI = 65535
_XMP_TURN_AND_SIZES = rb"tiff:(?:Orientation|ImageWidth|ImageLength)|exif:Pixel[XY]Dimension"
_XMP_DROPPED = (
    rb"""(?:%b)\s*=\s*("[^"]*"|'[^']*')""" % _XMP_TURN_AND_SIZES,
    rb"<(%b)\b[^<>]*>[^<]*</\1\s*>" % _XMP_TURN_AND_SIZES,
    # Looking no further than the next beginning keeps the time linear.
    rb"(?s)<((?:xmp|xap):Thumbnails)\b(?:(?!<\1\b).)*?</\1\s*>",
)
"""Orientation and sizes as attributes and as elements, and thumbnails: they are the old file's."""
_XMP_OF_PNG, _RAW_PROFILE = "XML:com.adobe.xmp", "Raw profile type "
"""Keywords of PNG texts that are other metadata; a raw profile's keyword goes on with its kind."""


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
    """Metadata of a photograph that the enlarged one takes over."""

    icc_profile: bytes | None = None
    exif: Image.Exif = field(default_factory=Image.Exif)
    """Without orientation and thumbnail."""
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    """Horizontal and vertical, finite and above 0."""
    comment: bytes | None = None
    """Comment of a JPEG, in an unknown encoding."""
    text: Mapping[str, str] = field(default_factory=dict)
    """Texts of a PNG, by keyword."""
    iptc: bytes | None = None
    gamma: float | None = None
    """File gamma, such as 0.45455, of a PNG without a profile."""
    chromaticity: tuple[float, ...] | None = None
    """x and y of white, red, green and blue in such a PNG."""
    srgb: int | None = None
    """Rendering intent of a PNG in sRGB."""
    cicp: bytes | None = None
    """Numbers of a PNG's colour space (cICP), such as that of high dynamic range."""


def metadata_of(image: Image.Image, gray: bool) -> tuple[Metadata, list[str]]:
    """The metadata of an image, opened and loaded, and the names of the metadata left out.

    `gray` is whether the enlarged image is gray: its colour profile has to be one of gray.
    """
    left_out: list[str] = []
    info = image.info

    def held(name: str, value: Any, valid: bool) -> Any:
        if value is None or valid:
            return value
        left_out.append(name)
        return None

    text, profiles = _texts(image, left_out)
    profile = info.get("icc_profile")
    kept_profile = profile_after(image, gray)
    held("colour profile", profile, kept_profile is not None or image.mode == "CMYK")
    xmp = info.get("xmp", profiles.get("xmp"))
    if isinstance(xmp, str):
        xmp = xmp.encode(errors="replace")
    xmp = held("XMP", xmp, isinstance(xmp, bytes))
    if xmp is not None:
        for pattern in _XMP_DROPPED:
            xmp = re.sub(pattern, b"", xmp)
    dpi = None if _without_resolution(image) else info.get("dpi")
    comment = info.get("comment")
    cicp = info.get("cicp")
    gamma, chromaticity, srgb = info.get("gamma"), info.get("chromaticity"), info.get("srgb")
    metadata = Metadata(
        icc_profile=kept_profile,
        exif=_kept_exif(image, left_out),
        xmp=xmp,
        dpi=held("resolution", _numbers(dpi), _are_within(dpi, 2, _LARGEST_DPI)),
        comment=comment if isinstance(comment, bytes) else None,
        text=text,
        iptc=_iptc(image, profiles.get("iptc"), left_out),
        gamma=gamma if _are_within((gamma,), 1, 20000) else None,
        chromaticity=_numbers(chromaticity) if _are_within(chromaticity, 8, 20000) else None,
        srgb=srgb if isinstance(srgb, int) and 0 <= srgb <= 3 else None,
        cicp=held("colour space (cICP)", cicp, isinstance(cicp, bytes) and len(cicp) == 4),
    )
    return metadata, left_out


def signed(metadata: Metadata, line: str) -> Metadata:
    """The metadata with a line (ASCII) as the EXIF tag ProcessingSoftware."""
    return replace(
        metadata, exif=_exif([*_entries(metadata.exif), _Entry(None, _PROCESSING_SOFTWARE, line)])
    )


def signature(image: Image.Image) -> str | None:
    """The line that `signed` wrote into an image, which need not be loaded; None without one."""
    try:
        # The PNG reader's own getexif decodes all pixels where no EXIF lies in front of them.
        line = Image.Image.getexif(image).get(_PROCESSING_SOFTWARE)
    except Exception:  # Pillow raises errors of any kind for broken EXIF
        return None
    return line if isinstance(line, str) else None


def exif_bytes(
    metadata: Metadata, size: tuple[int, int], largest: float, left_out: list[str]
) -> bytes | None:
    """EXIF of an enlarged image of `size` (width, height), None where it is empty.

    Existing tags of the size are set. Where EXIF would be longer than `largest` bytes, its largest
    tags are left out, and named in `left_out`.
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
    except Exception:  # Pillow raises errors of any kind for broken EXIF
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
    """EXIF as the tags of a TIFF, by number; a folder of tags is a dict."""
    return {tag: exif.get_ifd(tag) if tag in KEPT_FOLDERS else exif[tag] for tag in exif}


def _without_resolution(image: Image.Image) -> bool:
    """Whether an image is a TIFF without a resolution, for which Pillow reports 1 dpi."""
    tags = getattr(image, "tag_v2", None)
    return tags is not None and _X_RESOLUTION not in tags


def _texts(image: Image.Image, left_out: list[str]) -> tuple[dict[str, str], dict[str, bytes]]:
    """Texts of a PNG by keyword, and by kind the profiles in texts that ImageMagick writes."""
    text: dict[str, str] = {}
    profiles: dict[str, bytes] = {}
    for key, value in getattr(image, "text", {}).items() if image.format == "PNG" else ():
        kind = key.removeprefix(_RAW_PROFILE)
        if kind == key:
            if key != _XMP_OF_PNG:
                text[key] = str(value)
        elif kind in ("iptc", "xmp") and (profile := _raw_profile(value)) is not None:
            profiles[kind] = profile
        elif kind != "exif":  # that one is found where EXIF is read
            left_out.append(printable(key))
    return text, profiles


def _raw_profile(text: str) -> bytes | None:
    """The bytes that hexadecimal digits give, which stand below the kind and a length."""
    try:
        return bytes.fromhex("".join(text.split("\n")[3:]))
    except ValueError:
        return None


def _iptc(image: Image.Image, raw: bytes | None, left_out: list[str]) -> bytes | None:
    resources = image.info.get("photoshop")
    found = resources.get(_IPTC_OF_PHOTOSHOP) if isinstance(resources, dict) else None
    tags = getattr(image, "tag_v2", None)
    if found is None and tags is not None:
        found = tags.get(_IPTC_OF_TIFF)
        try:
            if isinstance(found, tuple):  # bytes that some writers call 32-bit numbers
                order = "<" if tags.prefix == b"II" else ">"
                found = struct.pack(f"{order}{len(found)}I", *found)
        except struct.error:
            pass
    if raw is not None:
        place = raw.find(_RESOURCE_OF_IPTC) + len(_RESOURCE_OF_IPTC)
        length = int.from_bytes(raw[place : place + 4])
        found = raw[place + 4 : place + 4 + length] if _RESOURCE_OF_IPTC in raw else raw
    # Each record of IPTC begins with this byte.
    if found and not (isinstance(found, bytes) and found[:1] == b"\x1c"):
        left_out.append("IPTC")
        return None
    return found or None


def _numbers(values: Any) -> tuple[Any, ...] | None:
    """Values as floats; () where one is no number, which `_are_within` refuses."""
    try:
        return None if values is None else tuple(float(value) for value in values)
    except (TypeError, ValueError, ArithmeticError):
        return ()


def _are_within(values: Any, count: int, largest: float) -> bool:
    """Whether the values are `count` finite numbers over 0 and up to `largest`."""
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError, ArithmeticError):
        return False
    return len(numbers) == count and all(
        math.isfinite(value) and 0 < value <= largest for value in numbers
    )
