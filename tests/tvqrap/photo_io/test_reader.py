"""Photographs as they are read: depth, colours, and the losses that are named."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, TiffImagePlugin

from tests.support.image_files import (
    png,
    png_with,
    raw_profile,
    tiff_of_pages,
)
from tvqrap.images.reading.high_bit_depth import stated_bits
from tvqrap.images.reading.open import open_image, read_image
from tvqrap.photo_io.reader import read_header, read_photo, read_several, read_several_header
from tvqrap.runtime.errors import UserError

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


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


def turned_png(name: bytes, text: bytes, before: bytes, path: Path) -> Path:
    Image.new("RGB", (20, 12)).save(path)
    path.write_bytes(png_with(path.read_bytes(), name, text, before=before))
    return path


def six() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


@pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        (b"eXIf", six().removeprefix(b"Exif\0\0")),
        (b"tEXt", raw_profile("exif", six())),
        (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(raw_profile("exif", six())[22:])),
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
    ],
)
def test_an_orientation_behind_the_pixels_is_in_the_header(
    name: bytes, text: bytes, before: bytes, tmp_path: Path
) -> None:
    path = turned_png(name, text, before, tmp_path / "a.png")
    assert read_header(path)[:2] == (12, 20)
    assert read_photo(path).photo.pixels.shape == (20, 12, 3)
    assert read_image(path).size == (12, 20)


def test_all_frames_are_turned_by_what_lies_behind_the_last(tmp_path: Path) -> None:
    path, frame = tmp_path / "a.png", Image.new("RGB", (20, 12))
    frame.save(path, save_all=True, append_images=[Image.new("RGB", (20, 12), "red")])
    text = b"XML:com.adobe.xmp\0\0\0\0\0" + XMP
    path.write_bytes(png_with(path.read_bytes(), b"iTXt", text, before=b"IEND"))
    header = read_several_header(path)
    assert header is not None and header.sizes == ((12, 20), (12, 20))
    found = [file.photo.pixels.shape for file in read_several(path).files]
    assert found == [(20, 12, 3), (20, 12, 3)]


def test_the_orientation_of_a_tiff_may_be_in_xmp_alone(tmp_path: Path) -> None:
    pages = [Image.new("RGB", (20, 12)), Image.new("RGB", (9, 7))]
    path = tmp_path / "a.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:], tiffinfo={700: XMP})
    assert read_header(path)[:2] == read_image(path).size == (12, 20)
    assert read_photo(path).photo.pixels.shape == (20, 12, 3)
    header = read_several_header(path)
    assert header is not None and header.sizes == ((12, 20), (7, 9))
    shapes = [file.photo.pixels.shape for file in read_several(path).files]
    assert shapes == [(20, 12, 3), (9, 7, 3)]


def test_pixels_of_another_size_than_the_headers_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (20, 12)).save(tmp_path / "a.png")
    monkeypatch.setattr("tvqrap.photo_io.reader.orientation_of", lambda image: 6)
    with pytest.raises(UserError, match=r"a\.png: .*image 1 is 12x20, expected 20x12"):
        read_photo(tmp_path / "a.png")


def test_pages_are_counted_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow's own count of 20,000 pages takes seconds."""

    def known(image: TiffImagePlugin.TiffImageFile) -> int:
        assert image._n_frames is not None, "counted"
        return image._n_frames

    monkeypatch.setattr(TiffImagePlugin.TiffImageFile, "n_frames", property(known))
    path = tmp_path / "a.tif"
    for count, images in ((1, None), (3, "3"), (1000, "1000"), (20_000, "more than 1000")):
        path.write_bytes(tiff_of_pages(count))
        note = f"holds {images} images, the first is read; --frames all takes every one"
        assert read_photo(path).notes == ((note,) if images else ())


def test_images_that_are_read_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tvqrap.photo_io.reader._MOST", 5)
    path = tmp_path / "a.tif"
    path.write_bytes(tiff_of_pages(5))
    header = read_several_header(path)
    assert header is not None and header.sizes == ((1, 1),) * 5
    path.write_bytes(tiff_of_pages(6))
    with pytest.raises(UserError, match=r"a\.tif: holds more than 5 pages, at most 5 are read"):
        read_several_header(path)
    frames = [Image.new("RGB", (4, 4), (n, 0, 0)) for n in range(6)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    with pytest.raises(UserError, match=r"a\.png: holds more than 5 frames, at most 5 are read"):
        read_several_header(tmp_path / "a.png")


def test_white_may_be_zero(tmp_path: Path) -> None:
    gray = np.linspace(0, 65535, 60).astype(np.uint16).reshape(6, 10)
    path = tmp_path / "gray.tif"
    for photometric, meant in (("minisblack", gray), ("miniswhite", 65535 - gray)):
        tifffile.imwrite(path, gray, photometric=photometric)
        np.testing.assert_array_equal(read_photo(path).photo.pixels[..., 0], meant)
        levels = np.asarray(read_image(path))[..., 0]
        np.testing.assert_array_equal(levels, np.rint(meant / 257))


def test_planes_that_pillow_misreads_are_refused(tmp_path: Path) -> None:
    colours = np.arange(6 * 10 * 3).astype(np.uint16).reshape(6, 10, 3) * 300
    whole, planes = tmp_path / "whole.tif", tmp_path / "planes.tif"
    tifffile.imwrite(whole, colours, photometric="rgb")
    np.testing.assert_array_equal(read_photo(whole).photo.pixels, colours)
    apart = np.moveaxis(colours, 2, 0).copy()
    tifffile.imwrite(planes, apart, photometric="rgb", planarconfig="separate")
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
    tifffile.imwrite(tmp_path / "cmyk.tif", inks, photometric="separated")
    assert read_photo(tmp_path / "cmyk.tif").notes == ("16 bits reduced to 8",)
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
