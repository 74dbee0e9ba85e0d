"""TIFFs written row by row."""

from io import BytesIO

import cv2
import numpy as np
import pytest
from PIL import Image

from tvqrap.photo_io.tiff import TiffWriter


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(("width", "bands"), [(7, [1]), (7, [3, 1, 5]), (900, [40, 200, 7])])
def test_pixels_survive(dtype: type, channels: int, width: int, bands: list[int]) -> None:
    height = sum(bands)
    highest = np.iinfo(dtype).max
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, highest + 1, (height, width, channels), dtype=dtype)
    if channels == 4:
        pixels[..., 3] = highest  # other readers multiply
    file = BytesIO()
    tiff = TiffWriter(file, width, height, channels, {270: "Grüße"}, bits=dtype().itemsize * 8)
    top = 0
    for rows in bands:
        tiff.write(pixels[top : top + rows])
        top += rows
    packed = np.frombuffer(file.getvalue(), np.uint8)
    if dtype == np.uint8:
        with Image.open(file) as image:
            np.testing.assert_array_equal(np.asarray(image).reshape(pixels.shape), pixels)
    elif channels != 2:  # gray with transparency: a kind of its own to OpenCV
        found = cv2.imdecode(packed, cv2.IMREAD_UNCHANGED).reshape(pixels.shape)
        order = [0] if channels == 1 else [2, 1, 0, 3][:channels]
        np.testing.assert_array_equal(found[..., order], pixels)
    else:
        assert file.getvalue().endswith(pixels.tobytes())
