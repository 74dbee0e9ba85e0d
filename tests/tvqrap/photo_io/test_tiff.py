"""TIFFs written row by row."""

from io import BytesIO

import cv2
import numpy as np
import pytest
from PIL import Image

from tvqrap.photo_io.tiff import TiffWriter


@pytest.mark.parametrize("level", [0, 6])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(("width", "bands"), [(7, [1]), (7, [3, 1, 5]), (900, [40, 200, 7])])
def test_pixels_survive(
    level: int, dtype: type, channels: int, width: int, bands: list[int]
) -> None:
    height = sum(bands)
    highest = np.iinfo(dtype).max
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, highest + 1, (height, width, channels), dtype=dtype)
    if channels == 4:
        pixels[..., 3] = highest  # other readers multiply
    file = BytesIO()
    tags = {270: "Grüße"}
    bits = dtype().itemsize * 8
    tiff = TiffWriter(file, width, height, channels, tags, bits=bits, level=level)
    top = 0
    for rows in bands:
        tiff.write(pixels[top : top + rows])
        top += rows
    tiff.finish()
    packed = np.frombuffer(file.getvalue(), np.uint8)
    if dtype == np.uint8:
        with Image.open(file) as image:
            np.testing.assert_array_equal(np.asarray(image).reshape(pixels.shape), pixels)
    elif channels != 2:  # gray with transparency: a kind of its own to OpenCV
        found = cv2.imdecode(packed, cv2.IMREAD_UNCHANGED).reshape(pixels.shape)
        order = [0] if channels == 1 else [2, 1, 0, 3][:channels]
        np.testing.assert_array_equal(found[..., order], pixels)
    elif level == 0:
        assert file.getvalue().endswith(pixels.tobytes())


def test_compressed_files_are_smaller_and_keep_their_tags() -> None:
    pixels = np.arange(300 * 400, dtype=np.uint16).reshape(300, 400) // 50
    sizes = []
    for level in (0, 1, 9):
        file = BytesIO()
        tiff = TiffWriter(file, 400, 300, 1, {270: "words" * 50}, bits=16, level=level)
        tiff.write(pixels)
        tiff.finish()
        sizes.append(len(file.getvalue()))
        with Image.open(file) as image:
            np.testing.assert_array_equal(np.asarray(image), pixels)
            assert image.tag_v2[270] == "words" * 50
    assert sizes[0] > 5 * sizes[1] > 5 * sizes[2]
