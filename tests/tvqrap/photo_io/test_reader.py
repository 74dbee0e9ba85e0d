"""Photographs as they are read: depth, colours, and the losses that are named."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.support.image_files import png, tiff_of_16_bits
from tvqrap.images.reading.high_bit_depth import stated_bits
from tvqrap.images.reading.open import open_image, read_image
from tvqrap.photo_io.reader import read_header, read_photo
from tvqrap.runtime.errors import UserError


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif", "avif"])
def test_header_and_pixels_have_one_size_when_turned(ending: str, tmp_path: Path) -> None:
    """Pillow's TIFF reader turns the picture itself, and says so before it is decoded."""
    path = tmp_path / f"turned.{ending}"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 12)).save(path, exif=exif)
    header = read_header(path)
    assert (header.width, header.height) == (12, 20)
    assert read_photo(path).photo.pixels.shape == (20, 12, 3)


def test_white_may_be_zero(tmp_path: Path) -> None:
    gray = np.linspace(0, 65535, 60).astype(np.uint16).reshape(6, 10)
    for photometric, meant in ((1, gray), (0, 65535 - gray)):
        path = tiff_of_16_bits(tmp_path / "gray.tif", gray, photometric)
        np.testing.assert_array_equal(read_photo(path).photo.pixels[..., 0], meant)
        levels = np.asarray(read_image(path))[..., 0]
        np.testing.assert_array_equal(levels, np.rint(meant / 257))


def test_planes_that_pillow_misreads_are_refused(tmp_path: Path) -> None:
    colours = np.arange(6 * 10 * 3).astype(np.uint16).reshape(6, 10, 3) * 300
    whole = tiff_of_16_bits(tmp_path / "whole.tif", colours, 2)
    np.testing.assert_array_equal(read_photo(whole).photo.pixels, colours)
    planes = tiff_of_16_bits(tmp_path / "planes.tif", colours, 2, planes=2)
    for read in (read_photo, read_image):
        with pytest.raises(UserError, match=r"planes\.tif: .*16-bit colours in separate planes"):
            read(planes)


def test_deep_gray_with_alpha_stays_gray_and_its_loss_is_named(tmp_path: Path) -> None:
    gray = np.linspace(0, 65535, 60).astype(">u2").reshape(6, 10)
    both = np.dstack([gray, np.full_like(gray, 30000)]).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in both)
    head = struct.pack(">IIBBBBB", 10, 6, 16, 4, 0, 0, 0)
    (tmp_path / "a.png").write_bytes(png((b"IHDR", head), (b"IDAT", zlib.compress(rows))))
    read = read_photo(tmp_path / "a.png")
    assert read.photo.gray and read.photo.alpha is not None
    np.testing.assert_array_equal(read.photo.pixels[..., 0], gray >> 8)
    assert read.notes == ("16 bits reduced to 8",)


def test_bits_that_are_cut_off_are_named(tmp_path: Path) -> None:
    inks = np.random.default_rng(0).integers(0, 65536, (6, 10, 4), dtype=np.uint16)
    cmyk = tiff_of_16_bits(tmp_path / "cmyk.tif", inks, 5)
    assert read_photo(cmyk).notes == ("16 bits reduced to 8",)
    (tmp_path / "deep.ppm").write_bytes(b"P6 2 1 65535\n" + bytes(12))
    assert read_photo(tmp_path / "deep.ppm").notes == ("16 bits reduced to 8",)
    (tmp_path / "flat.ppm").write_bytes(b"P6 2 1 255\n" + bytes(6))
    for name in ("flat.ppm", "flat.avif", "flat.jp2", "flat.tif", "flat.png"):
        if name != "flat.ppm":
            Image.new("RGB", (8, 8)).save(tmp_path / name)
        assert read_photo(tmp_path / name).notes == ()


@pytest.mark.parametrize(("flags", "bits"), [(0x40, 10), (0x60, 12)])
def test_an_avif_of_more_than_eight_bits(flags: int, bits: int, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.avif")
    content = bytearray((tmp_path / "a.avif").read_bytes())
    content[content.index(b"av1C") + 6] |= flags
    with open_image(tmp_path / "a.avif") as image:
        assert stated_bits(image, bytes(content)) == bits


def test_colours_that_cannot_be_kept_are_named(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("L", (4, 4)).save(tmp_path / "gray.png", icc_profile=profile)
    assert read_photo(tmp_path / "gray.png").left_out == ("colour profile",)
    Image.new("RGB", (4, 4)).save(tmp_path / "rgb.png", icc_profile=profile)
    assert read_photo(tmp_path / "rgb.png").left_out == ()


@pytest.mark.parametrize(
    "orientation",
    [
        b"tiff:Orientation='6'",
        b'tiff:Orientation = "6"',
        b"/><tiff:Orientation>6</tiff:Orientation >",
    ],
)
def test_an_orientation_in_xmp_goes(orientation: bytes, tmp_path: Path) -> None:
    xmp = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:Description " + orientation + b"/>"
    Image.new("RGB", (4, 4)).save(tmp_path / "a.jpg", xmp=xmp)
    kept = read_photo(tmp_path / "a.jpg").metadata.xmp
    assert kept is not None and b"rientation" not in kept and b"rdf:Description" in kept
