"""`tvqrap-cli upscale`: formats that are read and written."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.support.upscaling import image, opened, picture
from tvqrap.upscaling.upscaler import Upscaler


class TestFormats:
    @pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif", "bmp"])
    @pytest.mark.parametrize("size", [(1, 1), (7, 2)])
    def test_every_format_is_read(self, run: Any, ending: str, size: tuple[int, int]) -> None:
        image(f"a.{ending}", *size)
        result = run(f"a.{ending}", "-o", "b.png")
        assert result.exit_code == 0, result.output
        assert opened("b.png").size == (4 * size[0], 4 * size[1])

    @pytest.mark.parametrize("name", ["jpg", "tif"])
    def test_other_names_of_formats(self, run: Any, name: str, quick: None) -> None:
        assert run(image("a.bmp"), "-o", f"b.{name}", "--format", name).exit_code == 0

    @pytest.mark.parametrize("name", ["png", "jpeg", "webp", "tiff", "avif"])
    def test_every_format_is_written(self, run: Any, name: str) -> None:
        image("in/a.bmp", 30, 20)
        assert run("in", "-o", "out", "--format", name).exit_code == 0
        (written,) = Path("out").iterdir()
        assert opened(written).format == name.upper()
        assert opened(written).size == (120, 80)

    def test_quality(self, run: Any) -> None:
        photo = image("a.png", 40, 40)
        for quality in (20, 90):
            run(photo, "-o", f"{quality}.jpg", "--quality", quality)
        assert 2 * Path("20.jpg").stat().st_size < Path("90.jpg").stat().st_size

    @pytest.mark.parametrize(
        ("mode", "ending", "same"),
        [
            ("L", "png", "L"),
            ("1", "png", "L"),
            ("LA", "png", "LA"),
            ("P", "png", "RGB"),
            ("RGBA", "png", "RGBA"),
            ("RGBA", "webp", "RGBA"),
            ("CMYK", "jpg", "RGB"),
            ("CMYK", "tif", "RGB"),
        ],
    )
    def test_gray_stays_gray_and_alpha_alpha(
        self, run: Any, mode: str, ending: str, same: str
    ) -> None:
        given = picture(9, 6, mode)
        if mode in ("LA", "RGBA"):
            given.putalpha(picture(9, 6, "L"))
        given.save(f"a.{ending}")
        assert run(f"a.{ending}", "-o", "b.png").exit_code == 0
        assert opened("b.png").mode == same

    def test_sixteen_bits(self, run: Any) -> None:
        cv2.imwrite("deep.png", np.full((8, 8, 3), 150 * 257, np.uint16))
        cv2.imwrite("flat.png", np.full((8, 8, 3), 150, np.uint8))
        for name in ("deep", "flat"):
            assert run(f"{name}.png", "-o", f"{name}-large.png").exit_code == 0
        deep, flat = (cv2.imread(f"{n}-large.png", cv2.IMREAD_UNCHANGED) for n in ("deep", "flat"))
        assert deep.dtype == np.uint16 and flat.dtype == np.uint8
        assert np.abs(deep / 257 - flat).max() < 0.51

    @pytest.mark.parametrize("channels", [1, 3, 4])
    @pytest.mark.parametrize(
        ("given", "options", "written"),
        [
            ("a.png", (), "b.tif"),
            ("a.tif", (cv2.IMWRITE_TIFF_COMPRESSION, 1), "b.png"),
            ("a.tif", (cv2.IMWRITE_TIFF_COMPRESSION, 5), "b.png"),  # LZW
        ],
    )
    def test_sixteen_bits_are_read_and_written_to_the_last(
        self,
        run: Any,
        channels: int,
        given: str,
        options: tuple[int, ...],
        written: str,
        quick: None,
    ) -> None:
        pixels = np.random.default_rng(0).integers(1, 65536, (11, 7, channels), dtype=np.uint16)
        if channels == 4:
            pixels[..., 3] = 65535
            pixels[:6, :, 3] = 30000
        cv2.imwrite(given, pixels.squeeze(), options)
        assert run(given, "-o", written).exit_code == 0
        large = cv2.imread(written, cv2.IMREAD_UNCHANGED)
        assert large.dtype == np.uint16
        expected = pixels.squeeze().repeat(4, 0).repeat(4, 1)
        if channels == 1:  # by way of RGB
            assert np.abs(large.astype(int) - expected).max() <= 1
        else:
            np.testing.assert_array_equal(large[..., :3], expected[..., :3])
        if channels == 4:
            assert large[0, 0, 3] == 30000 and large[-1, -1, 3] == 65535
        # At another scale; and in 8 bits where the format has no more.
        assert run(given, "-o", written, "--scale", "2", "--overwrite").exit_code == 0
        half = cv2.imread(written, cv2.IMREAD_UNCHANGED)
        assert half.dtype == np.uint16 and half.shape[:2] == (22, 14)
        assert np.abs(half[8:14, 4:8].mean() - expected[16:28, 8:16].mean()) < 6000
        assert run(given, "-o", "b.webp").exit_code == 0
        flat = cv2.imread("b.webp", cv2.IMREAD_UNCHANGED)
        assert flat.dtype == np.uint8 and flat.shape[:2] == (44, 28)

    def test_one_transparent_colour_of_sixteen_bits(self, run: Any, quick: None) -> None:
        pixels = np.full((4, 4), 40001, np.uint16)
        pixels[:, 2:] = 40002  # the same upper byte
        Image.fromarray(pixels).save("a.png", transparency=40002)
        assert run("a.png", "-o", "b.png").exit_code == 0
        alpha = np.asarray(opened("b.png"))[..., -1]
        assert alpha[0, 0] == 255 and alpha[0, -1] == 0

    def test_standard_input_of_sixteen_bits(self, run: Any, quick: None) -> None:
        pixels = np.random.default_rng(0).integers(0, 65536, (3, 5, 3), dtype=np.uint16)
        packed = cv2.imencode(".png", pixels)[1].tobytes()
        result = run("-", "-o", "-", stdin=packed)
        large = cv2.imdecode(np.frombuffer(result.stdout_bytes, np.uint8), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(large, pixels.repeat(4, 0).repeat(4, 1))

    def test_transparency_is_enlarged_without_fringes(
        self, run: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # White on one side; black that nobody sees on the other.
        pixels = np.zeros((16, 16, 4), np.uint8)
        pixels[:, :8] = 255
        Image.fromarray(pixels).save("a.png")

        def enlarge(self: Upscaler, lr: np.ndarray, seen: Any) -> Any:
            yield np.asarray(Image.fromarray(lr).resize((64, 64), Image.Resampling.BICUBIC))

        monkeypatch.setattr(Upscaler, "rows", enlarge)
        assert run("a.png", "-o", "b.png").exit_code == 0
        large = np.asarray(opened("b.png"))
        assert (large[..., :3] == 255).all()
        assert large[0, 0, 3] == 255 and large[0, -1, 3] == 0
        # On white where the format has no transparency.
        assert run("a.png", "-o", "b.jpg").exit_code == 0
        assert np.asarray(opened("b.jpg")).min() > 250

    @pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif", "avif"])
    def test_profile_orientation_and_metadata(self, run: Any, ending: str) -> None:
        exif = Image.Exif()
        exif[0x0112], exif[0x010F], exif[0x0100] = 6, "Maker", 5
        exif[0x8769] = {0x829A: 0.5, 0xA002: 5, 0xA003: 3}
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        xmp = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'></x:xmpmeta>"
        image("a.jpg", exif=exif, icc_profile=profile, dpi=(72, 72), xmp=xmp)
        assert run("a.jpg", "-o", f"b.{ending}").exit_code == 0
        large = opened(f"b.{ending}")
        assert large.size == (12, 20)
        assert large.info["icc_profile"] == profile
        found = large.getexif()
        assert found[0x010F] == "Maker" and 0x0112 not in found
        folder = found.get_ifd(0x8769)
        assert (folder[0x829A], folder[0xA002], folder[0xA003]) == (0.5, 12, 20)
        assert large.info["xmp"] == xmp
        if ending not in ("webp", "avif"):
            assert round(float(large.info["dpi"][0])) == 72

    def test_a_profile_of_other_colours_is_not_carried(self, run: Any) -> None:
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        image("gray.png", mode="L", icc_profile=profile)
        assert run("gray.png", "-o", "b.png").exit_code == 0
        assert "icc_profile" not in opened("b.png").info

    @pytest.mark.parametrize(
        ("ending", "size", "limit"), [("webp", (4096, 1), 16383), ("jpg", (1, 16384), 65500)]
    )
    def test_what_a_format_cannot_hold_is_refused_at_once(
        self,
        run: Any,
        ending: str,
        size: tuple[int, int],
        limit: int,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(Upscaler, "from_pretrained", None)  # not even loaded
        result = run(image("a.png", *size), "-o", f"b.{ending}")
        assert result.exit_code == 1 and f"holds sides up to {limit}" in result.output

    def test_more_pages_than_one(self, run: Any) -> None:
        image("a.tif", save_all=True, append_images=[picture(5, 3)])
        result = run("a.tif", "-o", "b.png")
        assert result.exit_code == 0 and "holds 2 images, the first" in result.output

    def test_lossless_webp(self, run: Any, quick: None) -> None:
        photo = image("a.png", 20, 20, "RGBA")
        assert run(photo, "-o", "b.webp").exit_code == 0
        assert run(photo, "-o", "c.webp", "--lossless").exit_code == 0
        expected = np.asarray(opened(photo).convert("RGB")).repeat(4, 0).repeat(4, 1)
        lossy, kept = (np.asarray(opened(name).convert("RGB")) for name in ("b.webp", "c.webp"))
        assert np.array_equal(kept, expected) and not np.array_equal(lossy, expected)
        result = run(photo, "-o", "b.webp", "--lossless")
        assert result.exit_code == 1 and "made with quality 95 (now lossless)" in result.output

    @pytest.mark.parametrize("ending", ["png", "tif"])
    def test_compression(self, run: Any, ending: str, quick: None) -> None:
        photo = image("a.png", 60, 60)
        for level in (0, 9):
            assert run(photo, "-o", f"{level}.{ending}", "--compression", level).exit_code == 0
        assert 4 * Path(f"9.{ending}").stat().st_size < Path(f"0.{ending}").stat().st_size
        assert np.array_equal(*(np.asarray(opened(f"{level}.{ending}")) for level in (0, 9)))
