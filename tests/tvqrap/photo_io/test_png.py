"""PNGs written row by row."""

from io import BytesIO

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.support.paths import ROOT
from tvqrap.photo_io.png import PngWriter

PHOTO = ROOT / "data" / "photos" / "chelsea.jpg"


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("bands", [[1], [3, 1, 5]])
def test_sixteen_bits_survive(channels: int, bands: list[int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (sum(bands), 7, channels), np.uint16)
    file = BytesIO()
    png = PngWriter(file, 7, len(pixels), channels, bits=16)
    top = 0
    for rows in bands:
        png.write(pixels[top : top + rows])
        top += rows
    png.finish()
    packed = np.frombuffer(file.getvalue(), np.uint8)
    found = cv2.imdecode(packed, cv2.IMREAD_UNCHANGED).reshape(pixels.shape)
    np.testing.assert_array_equal(
        found[..., [0] if channels == 1 else [2, 1, 0, 3][:channels]], pixels
    )


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("bands", [[1], [3, 1, 5], [40]])
def test_pixels_survive(channels: int, bands: list[int]) -> None:
    height, width = sum(bands), 7
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    pixels[height // 2 :] //= 32  # rows that other filters suit
    file = BytesIO()
    png = PngWriter(file, width, height, channels)
    top = 0
    for rows in bands:
        png.write(pixels[top : top + rows])
        top += rows
    png.finish()
    with Image.open(file) as image:
        np.testing.assert_array_equal(np.asarray(image).reshape(pixels.shape), pixels)


def test_photographs_pack_as_well_as_with_pillow() -> None:
    with Image.open(PHOTO) as photo:
        pixels = np.asarray(photo.convert("RGB"))
    height, width = pixels.shape[:2]
    ours, theirs = BytesIO(), BytesIO()
    png = PngWriter(ours, width, height, 3)
    png.write(pixels)
    png.finish()
    Image.fromarray(pixels).save(theirs, "png")
    assert len(ours.getvalue()) < 1.05 * len(theirs.getvalue())
