"""Images in and out."""

import os
import struct
import tracemalloc
import zlib
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageCms

from tests.support.image_files import png
from tvqrap.images.reading.open import read_image, to_rgb
from tvqrap.images.tensors import to_tensor, to_uint8
from tvqrap.photo_io.reader import read_photo
from tvqrap.runtime.errors import UserError


def gradient(height: int = 12, width: int = 20) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x * 12, y * 20, x + y], axis=-1).astype(np.uint8))


@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 5), st.just(3))))
def test_pixels_survive_the_way_to_a_tensor_and_back(pixels: np.ndarray) -> None:
    tensor = to_tensor(pixels)
    assert tensor.shape == (3, *pixels.shape[:2]) and tensor.dtype == torch.float32
    assert tensor.min() >= -1 and tensor.max() <= 1
    np.testing.assert_array_equal(to_uint8(tensor), pixels)
    np.testing.assert_array_equal(to_uint8(tensor[None])[0], pixels)


def test_values_are_clamped_and_rounded() -> None:
    values = torch.tensor([-9.0, -1.0, 0.001, 0.0041, 1.0, 9.0]).repeat(3, 1, 1)
    assert to_uint8(values)[0, :, 0].tolist() == [0, 0, 128, 128, 255, 255]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        to_uint8(torch.full((3, 2, 2), value))


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "CMYK", "1", "RGBA", "LA"])
def test_every_mode_is_read_as_rgb(mode: str, tmp_path: Path) -> None:
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    gradient().convert(mode).save(path)
    image = read_image(path)
    assert image.mode == "RGB" and image.size == (20, 12)


def test_sixteen_bits_keep_their_brightness(tmp_path: Path) -> None:
    levels = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(levels).save(tmp_path / "deep.png")
    pixels = np.asarray(read_image(tmp_path / "deep.png"))
    np.testing.assert_array_equal(pixels[..., 0], np.arange(256).reshape(16, 16))


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_are_rounded_alike_in_gray_and_colours(name: str, tmp_path: Path) -> None:
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    cv2.imwrite(str(tmp_path / name), np.dstack([levels] * 3))
    cv2.imwrite(str(tmp_path / f"gray-{name}"), levels)
    expected = np.rint(levels / 257)
    for path in (tmp_path / name, tmp_path / f"gray-{name}"):
        np.testing.assert_array_equal(np.asarray(read_image(path))[..., 1], expected)


def test_what_is_transparent_becomes_white() -> None:
    pixels = np.zeros((1, 2, 4), dtype=np.uint8)
    pixels[0, 1, 3] = 255
    assert np.asarray(to_rgb(Image.fromarray(pixels))).tolist() == [[[255] * 3, [0] * 3]]


def test_the_transparent_level_of_a_deep_gray_png_becomes_white() -> None:
    head = struct.pack(">IIBBBBB", 3, 1, 16, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" + struct.pack(">HHH", 0, 1000, 65535))
    content = png((b"IHDR", head), (b"tRNS", struct.pack(">H", 1000)), (b"IDAT", rows))
    assert np.asarray(read_image(content))[0, :, 1].tolist() == [0, 255, 255]


def test_cmyk_goes_by_way_of_its_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = BytesIO()
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("CMYK", (2, 2), (0, 255, 255, 0)).save(stream, "JPEG", icc_profile=profile)
    naive = np.asarray(read_image(stream.getvalue()))
    assert naive[0, 0].tolist() == [255, 0, 0], "a profile of another colour space"
    by_profile = Image.new("RGB", (2, 2), (237, 28, 36))
    monkeypatch.setattr(ImageCms, "profileToProfile", lambda *_, **__: by_profile)
    assert np.asarray(read_image(stream.getvalue()))[0, 0].tolist() == [237, 28, 36]
    assert read_photo(stream.getvalue()).photo.pixels[0, 0].tolist() == [237, 28, 36]


def test_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    gradient().save(tmp_path / "turned.png", exif=exif)
    turned = read_image(tmp_path / "turned.png")
    assert turned.size == (12, 20)
    expected = gradient().transpose(Image.Transpose.ROTATE_270)
    np.testing.assert_array_equal(np.asarray(turned), np.asarray(expected))


def test_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    whole = tmp_path / "whole.png"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(whole)
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:2000])
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "empty.png").touch()
    Image.fromarray(np.ones((4, 4), dtype=np.float32)).save(tmp_path / "float.tif")
    for name, message in {
        "cut.png": "cannot be read",
        "text.jpg": "not an image",
        "empty.png": "not an image",
        "none.png": "no such file",
        ".": "is a folder",
        "float.tif": "floating-point",
    }.items():
        with pytest.raises(UserError, match=message) as error:
            read_image(tmp_path / name)
        assert "\n" not in str(error.value) and str(tmp_path / name) in str(error.value)
    with pytest.raises(UserError, match="64x64 is 4096 pixels, at most 4095"):
        read_image(whole, max_pixels=4095)


class TestHostileFiles:
    """Files that are no photographs, or broken ones, cost one line."""

    @pytest.mark.parametrize(
        "content",
        [
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n{} loop\n",
            b"\xc5\xd0\xd3\xc6" + bytes(40) + b"%!PS-Adobe-3.0 EPSF-3.0\n",
            b"#define a_width 10\n#define a_height 10\nstatic char a_bits[] = {0};\n",
            b"\xd7\xcd\xc6\x9a" + bytes(60),
        ],
        ids=["eps", "eps with preview", "xbm", "wmf"],
    )
    def test_formats_that_run_programs_are_not_opened(
        self, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def started(*_: object, **__: object) -> None:
            raise SystemExit("a program was started")

        monkeypatch.setattr("subprocess.Popen", started)
        Image.init()  # as a caller may have: all of Pillow's readers are there
        (tmp_path / "photo.png").write_bytes(content)
        with pytest.raises(UserError, match="not an image of a known format"):
            read_image(tmp_path / "photo.png")

    def test_a_length_beyond_the_file_is_not_made_room_for(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jp2"
        box = struct.pack(">I4sQ", 1, b"jp2h", 2**36)
        path.write_bytes(b"\0\0\0\x0cjP  \x0d\x0a\x87\x0a" + box + bytes(40))
        tracemalloc.start()
        try:
            with pytest.raises(UserError, match=r"a\.jp2: "):
                read_image(path)
            assert tracemalloc.get_traced_memory()[1] < 2**24
        finally:
            tracemalloc.stop()

    def test_a_pipe_is_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "p.png")
        for path in (tmp_path / "p.png", Path("/dev/zero")):
            with pytest.raises(UserError, match="is not a regular file, expected an image"):
                read_image(path)

    def test_a_palette_that_is_missing(self, tmp_path: Path) -> None:
        head = struct.pack(">IIBBBBB", 4, 4, 8, 3, 0, 0, 0)
        rows = zlib.compress(b"\0\1\2\3\4" * 4)
        (tmp_path / "p.png").write_bytes(png((b"IHDR", head), (b"IDAT", rows)))
        with pytest.raises(UserError, match=r"p\.png: cannot be read as an image \(\w+"):
            read_image(tmp_path / "p.png")

    @pytest.mark.parametrize("error", [AssertionError(), RecursionError("deep"), KeyError("x")])
    def test_whatever_a_decoder_raises_is_one_line(
        self, error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(self: Image.Image) -> None:
            raise error

        gradient().save(tmp_path / "a.png")
        monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
        with pytest.raises(UserError, match=rf"a\.png: cannot .* \({type(error).__name__}"):
            read_image(tmp_path / "a.png")

    def test_memory_that_runs_out_is_no_fault_of_the_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(self: Image.Image) -> None:
            raise MemoryError

        gradient().save(tmp_path / "a.png")
        monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
        with pytest.raises(MemoryError):
            read_image(tmp_path / "a.png")

    def test_a_name_of_control_characters_is_escaped(self, tmp_path: Path) -> None:
        (tmp_path / "\x1b[2Jx.png").write_text("no image")
        with pytest.raises(UserError) as error:
            read_image(tmp_path / "\x1b[2Jx.png")
        assert str(error.value).endswith(r"\x1b[2Jx.png: not an image of a known format")

    def test_more_pixels_than_pillow_allows_may_be_asked_for(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        gradient(30, 20).save(tmp_path / "a.png")
        assert read_image(tmp_path / "a.png", max_pixels=600).size == (20, 30)


@pytest.mark.parametrize(
    "name", ["a.avif", "a.jfif", "a.jpe", "a.gif", "a.jp2", "a.tga", "a.ppm", "a.pgm", "a.webp"]
)
def test_formats_that_are_read(name: str, tmp_path: Path) -> None:
    image = gradient().convert("L") if name == "a.pgm" else gradient()
    options = {"format": "JPEG"} if name in ("a.jfif", "a.jpe") else {}
    image.save(tmp_path / name, **options)
    assert read_image(tmp_path / name).size == (20, 12)


@pytest.mark.parametrize(("name", "extra"), [("a.heic", "heic"), ("a.jxl", "jxl")])
def test_formats_of_extras_name_them(name: str, extra: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"no image")
    with pytest.raises(UserError, match="not an image of a known format") as error:
        read_image(tmp_path / name)
    installed = find_spec({"heic": "pillow_heif", "jxl": "pillow_jxl"}[extra]) is not None
    assert installed or f"pip install 'tvqrap[{extra}]'" in str(error.value)


def test_odd_exif_costs_no_picture(tmp_path: Path) -> None:
    """Its orientation can be read where other tags are none of EXIF's."""
    turned = struct.pack("<HHIHxx", 0x0112, 3, 1, 6)
    resolution_as_text = struct.pack("<HHI4s", 0x011A, 2, 4, b"300")
    tags = struct.pack("<H", 2) + turned + resolution_as_text + bytes(4)
    odd = b"Exif\0\0II*\0" + struct.pack("<I", 8) + tags
    gradient(12, 20).save(tmp_path / "odd.jpg", exif=odd, quality=100, subsampling=0)
    image = read_image(tmp_path / "odd.jpg")
    assert image.size == (12, 20)
    upright = np.asarray(gradient(12, 20).transpose(Image.Transpose.ROTATE_270)).astype(int)
    assert np.abs(np.asarray(image) - upright).max() < 12
