"""Metadata of photographs, as odd as files hold it, on its way to enlarged ones."""

import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin, TiffImagePlugin

from tests.support.image_files import png_with, raw_profile
from tvqrap.photo_io.formats import FORMATS
from tvqrap.photo_io.photo import enlarged_rows
from tvqrap.photo_io.png import PngWriter
from tvqrap.photo_io.reader import read_header, read_photo
from tvqrap.photo_io.writer import write_photo
from tvqrap.runtime.errors import UserError
from tvqrap.runtime.text import printable

PLAIN = Image.new("RGB", (5, 3), "red")
IPTC = b"\x1c\x02\x50\0\x01A"


def saved(form: str, **options: Any) -> bytes:
    file = BytesIO()
    PLAIN.save(file, form, **options)
    return file.getvalue()


def enlarged(content: bytes, form: str) -> tuple[Image.Image, list[str]]:
    """The photograph enlarged plainly, and what was left out."""
    read = read_photo(content)
    height, width = read.photo.pixels.shape[:2]
    size = (4 * width, 4 * height)
    rows = enlarged_rows(read.photo, lambda lr: iter([lr.repeat(4, 0).repeat(4, 1)]), size)
    file = BytesIO()
    left_out = write_photo(file, FORMATS[form], rows, size, read.metadata)
    image = Image.open(file)
    image.load()
    return image, [*read.left_out, *left_out]


def exif() -> Image.Exif:
    tags = Image.Exif()
    tags[0x010F], tags[0x0112] = "Maker", 6
    tags[0x8769] = {0x9003: "2020:01:02 03:04:05", 0x829A: 0.5, 0xA002: 5, 0x9204: -0.5}
    tags[0x8825] = {1: "N", 2: (1.0, 2.0, 3.0), 6: 55.0}
    return tags


def with_negative_altitude() -> bytes:
    """As some cameras write it: a signed number where EXIF has none."""
    content = bytearray(exif().tobytes())
    entry = content.find(struct.pack(">HHI", 6, 5, 1))
    (place,) = struct.unpack_from(">I", content, entry + 8)
    struct.pack_into(">H", content, entry + 2, 10)
    struct.pack_into(">i", content, place + len(b"Exif\0\0"), -55)
    return bytes(content)


@pytest.mark.parametrize("form", [*FORMATS])
def test_a_tag_that_cannot_be_written_is_left_out_alone(form: str) -> None:
    image, left_out = enlarged(saved("jpeg", exif=with_negative_altitude()), form)
    assert left_out == ["EXIF GPSAltitude"]
    assert image.size == (12, 20)
    found = image.getexif()
    assert found[0x010F] == "Maker" and found.get_ifd(0x8769)[0xA002] == 12
    assert found.get_ifd(0x8825)[2] == (1.0, 2.0, 3.0)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(6, 300), st.integers(0, 255)), min_size=1, max_size=6),
    st.sampled_from(["png", "jpeg", "tiff"]),
)
def test_no_exif_costs_the_picture(changes: list[tuple[int, int]], form: str) -> None:
    content = bytearray(exif().tobytes())
    for place, value in changes:
        content[place % len(content)] = value
    image, _ = enlarged(saved("png", exif=bytes(content)), form)
    assert sorted(image.size) == [12, 20]


@pytest.mark.parametrize("form", ["png", "jpeg", "tiff"])
def test_a_resolution_that_is_none(form: str) -> None:
    nothing = TiffImagePlugin.IFDRational(0, 0)
    image, left_out = enlarged(saved("tiff", tiffinfo={282: nothing, 283: nothing, 296: 2}), form)
    assert left_out == ["resolution"]
    assert image.size == (20, 12)


def test_a_tiff_without_a_resolution_gives_none() -> None:
    assert read_photo(saved("tiff")).metadata.dpi is None
    assert "dpi" not in enlarged(saved("tiff"), "png")[0].info


@pytest.mark.parametrize("form", ["png", "jpeg"])
def test_what_is_too_large_for_jpeg_is_named_before_anything_is_computed(form: str) -> None:
    tags = Image.Exif()
    tags[0x010F], tags[0x8769] = "Maker", {0x9286: b"ASCII\0\0\0" + b"x" * 70_000}
    content = saved("webp", exif=tags, xmp=b"<x>" + b" " * 70_000)
    image, left_out = enlarged(content, form)
    assert left_out == ([] if form == "png" else ["EXIF UserComment", "XMP"])
    assert image.getexif()[0x010F] == "Maker"


def test_text_and_colours_of_a_png() -> None:
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("Title", "a title")
    chunks.add_text("Comment", "a comment")
    chunks.add_itxt("Author", "Żółw")
    chunks.add(b"gAMA", struct.pack(">I", 45455))
    chunks.add(b"cHRM", struct.pack(">8I", *range(30_000, 38_000, 1000)))
    chunks.add(b"sRGB", b"\1")
    content = saved("png", pnginfo=chunks)
    image, _ = enlarged(content, "png")
    assert isinstance(image, PngImagePlugin.PngImageFile)
    assert image.text == {"Title": "a title", "Comment": "a comment", "Author": "Żółw"}
    assert (image.info["gamma"], image.info["srgb"]) == (0.45455, 1)
    assert image.info["chromaticity"] == tuple(n / 100 for n in range(30, 38))
    assert enlarged(content, "jpeg")[0].info["comment"] == b"a comment"


def test_the_colour_space_of_a_png_is_kept_in_pngs_and_named_elsewhere() -> None:
    chunks = PngImagePlugin.PngInfo()
    chunks.add(b"cICP", bytes([9, 16, 0, 1]))
    content = saved("png", pnginfo=chunks)
    image, left_out = enlarged(content, "png")
    assert left_out == [] and image.size == (20, 12)
    again = BytesIO()
    read = read_photo(content)
    write_photo(again, FORMATS["png"], iter([read.photo.pixels]), (5, 3), read.metadata)
    assert b"\0\0\0\4cICP" + bytes([9, 16, 0, 1]) in again.getvalue()
    assert read_photo(again.getvalue()).metadata.cicp == bytes([9, 16, 0, 1])
    for form in ("jpeg", "webp", "tiff"):
        assert enlarged(content, form)[1] == ["colour space (cICP)"]


def test_a_jpegs_comment_and_iptc() -> None:
    block = b"Photoshop 3.0\x008BIM\x04\x04\0\0" + struct.pack(">I", len(IPTC)) + IPTC
    marker = b"\xff\xed" + struct.pack(">H", len(block) + 2) + block
    content = saved("jpeg", comment="schön".encode(), extra=marker)
    image, _ = enlarged(content, "jpeg")
    assert image.info["comment"] == "schön".encode()
    assert image.info["photoshop"][0x0404] == IPTC
    image, _ = enlarged(content, "tiff")
    assert isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2[33723] == IPTC
    assert enlarged(content, "png")[0].info["Comment"] == "schön"
    again = BytesIO()
    image.save(again, "tiff", tiffinfo={33723: IPTC})
    assert enlarged(again.getvalue(), "jpeg")[0].info["photoshop"][0x0404] == IPTC


@pytest.mark.parametrize("content", [IPTC, b"8BIM\x04\x04\0\0\0\0\0\6" + IPTC + b"8BIM"])
def test_iptc_in_a_raw_profile_of_a_png(content: bytes) -> None:
    photo = png_with(saved("png"), b"tEXt", raw_profile("iptc", content), before=b"IEND")
    image, left_out = enlarged(photo, "jpeg")
    assert image.info["photoshop"][0x0404] == IPTC and left_out == []


def test_xmp_in_a_raw_profile_of_a_png() -> None:
    photo = png_with(saved("png"), b"tEXt", raw_profile("xmp", b"<x/>"), before=b"IDAT")
    image, left_out = enlarged(photo, "png")
    assert image.info["xmp"] == b"<x/>" and left_out == []


@pytest.mark.parametrize("kind", ["iptc", "xmp", "8bim", "\x1b[1m"])
def test_a_raw_profile_that_cannot_be_taken_is_named(kind: str) -> None:
    text = raw_profile(kind, b"a") if len(kind) > 4 else b"Raw profile type " + kind.encode()
    photo = png_with(saved("png"), b"tEXt", text + b"\0\n\n\nno digits", before=b"IDAT")
    assert enlarged(photo, "jpeg")[1] == [printable(f"Raw profile type {kind}")]


@pytest.mark.parametrize(
    "stale",
    [
        b"tiff:Orientation='6'",
        b'tiff:Orientation = "6"',
        b"/><tiff:Orientation>6</tiff:Orientation >",
        b"tiff:ImageWidth='5' tiff:ImageLength=\"3\"",
        b"/><exif:PixelXDimension>5</exif:PixelXDimension><exif:PixelYDimension a='b'>"
        b"3</exif:PixelYDimension>",
        b"/><xmp:Thumbnails><rdf:Alt><rdf:li xmpGImg:width='5'>\n/9j/4A</rdf:li></rdf:Alt>"
        b"</xmp:Thumbnails>",
    ],
)
def test_what_xmp_says_of_the_old_file_goes(stale: bytes) -> None:
    xmp = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:Description " + stale + b" dc:format='a'/>"
    kept = read_photo(saved("jpeg", xmp=xmp)).metadata.xmp
    assert kept is not None and b"<rdf:Description " in kept and kept.endswith(b" dc:format='a'/>")
    for word in (b"Orientation", b"Image", b"Dimension", b"Thumbnail", b"9j"):
        assert word not in kept


def test_hostile_xmp_takes_no_time() -> None:
    for start in (b"<xmp:Thumbnails ", b"<tiff:Orientation ", b"tiff:ImageWidth='"):
        assert read_photo(saved("webp", xmp=start * 100_000)).metadata.xmp is not None


def test_a_header_is_read_without_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    late, plain = tmp_path / "late.png", tmp_path / "plain.png"
    PLAIN.save(plain)
    with late.open("wb") as file:
        png = PngWriter(file, 5, 3, 3)
        png.write(np.asarray(PLAIN))
        png.chunk(b"eXIf", exif().tobytes().removeprefix(b"Exif\0\0"))
        png.finish()

    def refuse(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", refuse)
    assert read_header(late)[:2] == (3, 5)
    assert read_header(plain)[:2] == (5, 3)
    with pytest.raises(UserError, match="5x3 is 15 pixels, at most 14"):
        read_header(plain, max_pixels=14)
