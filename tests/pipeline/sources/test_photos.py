"""Photographs: the kinds that are read, the kinds that are skipped, and keys."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.sources.photos import UnusableError, decode, discover, photo_key
from pipeline.sources.scan import scan_photos
from tests.support.limits import lock_folders
from tests.support.pairs import data_settings, texture
from tvqrap.runtime.errors import UserError

IMAGE = texture(1, 60, 80)


def read(folder: Path, name: str, max_pixels: int = 10_000) -> np.ndarray:
    settings = data_settings(folder, min_side=16, max_pixels=max_pixels, max_skipped_fraction=0.0)
    return decode(folder / name, settings)


def chunk(kind: bytes, body: bytes) -> bytes:
    """One chunk of a PNG file."""
    crc = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)


def png_header(width: int, height: int) -> bytes:
    """A small file that claims to be a large picture."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(1)))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize("suffix", ["png", "webp", "tif", "bmp"])
def test_lossless_formats(tmp_path, suffix):
    Image.fromarray(IMAGE).save(
        tmp_path / f"a.{suffix}", **({"lossless": True} if suffix == "webp" else {})
    )
    np.testing.assert_array_equal(read(tmp_path, f"a.{suffix}"), IMAGE)


def test_exif_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to see it upright
    Image.fromarray(IMAGE).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read(tmp_path, "a.png"), np.rot90(IMAGE, -1))


def test_gray_cmyk_16_bit_palette_and_alpha(tmp_path):
    gray = IMAGE[..., 0]
    Image.fromarray(gray).save(tmp_path / "gray.png")
    np.testing.assert_array_equal(read(tmp_path, "gray.png"), np.stack([gray] * 3, -1))

    Image.fromarray(IMAGE).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=98)
    assert np.abs(read(tmp_path, "cmyk.jpg").astype(int) - IMAGE).mean() < 6

    Image.fromarray(gray.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(read(tmp_path, "deep.png"), np.stack([gray] * 3, -1))

    alpha = np.dstack([IMAGE, np.full((60, 80), 255, np.uint8)])
    alpha[:30, :, 3] = 0
    Image.fromarray(alpha).save(tmp_path / "alpha.png")
    np.testing.assert_array_equal(read(tmp_path, "alpha.png")[30:], IMAGE[30:])
    assert (read(tmp_path, "alpha.png")[:30] == 255).all()

    palette = Image.fromarray(IMAGE).quantize(16)
    palette.save(tmp_path / "palette.png", transparency=palette.getpixel((0, 0)))
    found = read(tmp_path, "palette.png")
    opaque = np.asarray(palette) != palette.getpixel((0, 0))
    np.testing.assert_array_equal(found[opaque], np.asarray(palette.convert("RGB"))[opaque])
    assert (found[~opaque] == 255).all()


def test_every_skipped_photograph_has_a_reason(tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "good.jpg")
    whole = (tmp_path / "good.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "bomb.png").write_bytes(png_header(50_000, 50_000))
    (tmp_path / "huge.png").write_bytes(png_header(200, 51))
    Image.fromarray(IMAGE[:10]).save(tmp_path / "tiny.png")
    (tmp_path / "credits.md").write_text("a companion, no photograph")
    (tmp_path / ".hidden.png").write_bytes(b"")
    (tmp_path / "out.jpg").symlink_to("/etc/passwd")
    (tmp_path / "linked").symlink_to("/etc")
    (tmp_path / "circle.jpg").symlink_to("circle.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / os.fsdecode(b"bad\xff.jpg")).write_bytes(b"")

    settings = data_settings(tmp_path, min_side=16, max_pixels=10_000, max_skipped_fraction=1.0)
    scan = scan_photos(settings, executor="serial", workers=1)
    assert [entry.photo.name for entry in scan.usable] == ["good.jpg"]
    reasons = {entry.name: entry.reason for entry in scan.skipped}
    assert len(reasons) == 11
    assert "leads nowhere" in reasons["circle.jpg"]
    assert "not UTF-8" in reasons["bad\\xff.jpg"]
    assert "truncated" in reasons["cut.jpg"]
    assert "not an image" in reasons["text.jpg"]
    assert "not an image" in reasons["empty.png"]
    assert "10000" in reasons["bomb.png"]
    assert "200x51" in reasons["huge.png"]
    assert "80x10" in reasons["tiny.png"]
    assert "out of the folder" in reasons["out.jpg"]
    assert "out of the folder" in reasons["linked"]
    assert "neither a file" in reasons["pipe.jpg"]
    assert all(str(tmp_path) not in reason for reason in reasons.values())
    assert scan.skipped_fraction == len(reasons) / (1 + len(reasons))
    assert scan.passed_over == "passed over: 1 hidden (.hidden.png), 1 not named as images (.md)"


@pytest.mark.parametrize("listed", [False, True])
def test_a_file_over_a_gigabyte_is_not_read(listed, tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    Image.fromarray(IMAGE).save(tmp_path / "huge.png")
    os.truncate(tmp_path / "huge.png", 2**43)  # sparse: takes no disk, and hours to read
    (tmp_path / "sources.yaml").write_text(f"- {tmp_path}\n")
    photos = tmp_path / "sources.yaml" if listed else tmp_path
    settings = data_settings(photos, min_side=16, max_skipped_fraction=1.0)
    scan = scan_photos(settings, executor="serial", workers=1)
    assert [entry.photo.name for entry in scan.usable] == ["a.png"]
    (skipped,) = scan.skipped
    assert skipped.name == "huge.png" and f"{2**43} bytes, at most {2**30}" in skipped.reason


def test_any_cut_of_a_file_is_skipped_or_read(tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    Image.fromarray(IMAGE).save(tmp_path / "a.tif")
    for name in ("a.png", "a.tif"):
        whole = (tmp_path / name).read_bytes()
        for size in range(0, len(whole), 371):
            (tmp_path / name).write_bytes(whole[:size])
            with pytest.raises(UnusableError):
                read(tmp_path, name)


def test_no_folder_and_no_photograph(tmp_path):
    with pytest.raises(UserError, match="expected a folder of images"):
        discover(tmp_path / "none")
    settings = data_settings(tmp_path, min_side=16, max_pixels=10_000, max_skipped_fraction=1.0)
    with pytest.raises(UserError, match="no usable photograph"):
        scan_photos(settings, executor="serial", workers=1)


def test_a_folder_that_cannot_be_searched_is_skipped_with_the_reason(tmp_path, monkeypatch):
    (tmp_path / "locked").mkdir()
    (tmp_path / "a.png").touch()
    lock_folders("locked", monkeypatch)
    found = discover(tmp_path)
    assert [photo.name for photo in found.photos] == ["a.png"]
    assert [each.name for each in found.skipped] == ["locked"]
    assert "Permission denied" in found.skipped[0].reason


def test_links_inside_the_folder_are_read(tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("a.png")
    found = discover(tmp_path)
    assert [photo.name for photo in found.photos] == ["a.png", "b.png"]
    assert not found.skipped


def test_companions_are_no_skipped_photographs(tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    companions = ("a.xmp", "Thumbs.db", "desktop.ini", "a.AAE", "a.MOV", "notes.txt", "x.docx")
    for name in (*companions, ".DS_Store", "._a.png", "a.png:Zone.Identifier"):
        (tmp_path / name).write_bytes(b"companion")
    (tmp_path / "@eaDir").mkdir()
    Image.fromarray(IMAGE).save(tmp_path / "@eaDir" / "SYNOPHOTO_THUMB_XL.jpg")
    found = discover(tmp_path)
    assert [photo.name for photo in found.photos] == ["a.png"]
    assert not found.skipped
    assert "2 hidden" in found.passed_over
    assert "8 not named as images" in found.passed_over
    assert "1 a folder of thumbnails (@eaDir)" in found.passed_over


@pytest.mark.parametrize("config", ["", "[cache]\n    dir = ../../disk/cache\n"])
def test_photographs_that_dvc_linked_into_its_cache_are_read(tmp_path, monkeypatch, config):
    checkout = tmp_path / "checkout"
    cache = tmp_path / "disk/cache" if config else checkout / ".dvc/cache"
    for folder in (checkout / ".dvc", checkout / "photos/deep", cache / "files/md5/ab"):
        folder.mkdir(parents=True, exist_ok=True)
    (checkout / ".dvc/config").write_text("['remote \"a\"']\n    url = s3://a\n")
    (checkout / ".dvc/config.local").write_text(config)
    Image.fromarray(IMAGE).save(cache / "files/md5/ab/cdef", format="PNG")
    Image.fromarray(IMAGE).save(tmp_path / "elsewhere.png")
    (checkout / "photos/deep/a.png").symlink_to(cache / "files/md5/ab/cdef")
    (checkout / "photos/b.png").symlink_to(tmp_path / "elsewhere.png")
    monkeypatch.chdir(checkout)
    found = discover(checkout / "photos")
    assert [photo.name for photo in found.photos] == ["deep/a.png"]
    assert [entry.name for entry in found.skipped] == ["b.png"]
    np.testing.assert_array_equal(read(checkout / "photos", "deep/a.png"), IMAGE)
    # The photographs cannot name a cache themselves.
    monkeypatch.chdir(tmp_path)
    assert not discover(checkout / "photos").photos


def test_all_unusable_photographs_are_counted_by_reason(tmp_path):
    for number in range(3):
        Image.fromarray(IMAGE[: 10 + number]).save(tmp_path / f"small{number}.png")
    (tmp_path / "bad.jpg").write_text("not an image")
    (tmp_path / "readme.txt").write_text("credits")
    settings = data_settings(tmp_path, min_side=16, max_pixels=10_000, max_skipped_fraction=1.0)
    with pytest.raises(UserError) as caught:
        scan_photos(settings, executor="serial", workers=1)
    said = str(caught.value)
    assert "no usable photograph: 3 such as small0.png: 80x10 pixels, expected a shorter" in said
    assert "; 1 such as bad.jpg: not an image" in said
    assert said.endswith("passed over: 1 not named as images (.txt)")


def test_a_key_follows_from_its_own_path_alone():
    names = ["a/b.png", "a-b.png", "a-b.jpg", "A-B.png", "a b.png", "été.png", "x" * 90 + ".png"]
    keys = [photo_key(name) for name in names]
    assert keys[0].startswith("a-b-") and keys[4].startswith("a_b-")
    assert len({key.lower() for key in keys}) == len(names)
    assert len(keys[-1]) == 60


@given(st.sets(st.text(st.characters(exclude_characters="\0/"), min_size=1, max_size=12)))
def test_keys_are_unique_and_of_allowed_letters(names):
    keys = [photo_key(f"d/{name}.jpg") for name in names]
    assert len(set(keys)) == len(names)
    for key in keys:
        assert key.isascii()
        assert key.replace("-", "").replace("_", "").isalnum()
        assert len(key) <= 60
