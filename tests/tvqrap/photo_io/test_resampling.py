"""Resampling in bands."""

from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from tvqrap.photo_io.resampling import resampled_rows


@pytest.mark.parametrize("size", [(30, 45), (60, 90), (7, 3), (1, 1), (61, 90), (150, 201)])
@pytest.mark.parametrize("rows", [1, 16, 90])
def test_it_is_that_of_the_whole_image(size: tuple[int, int], rows: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 60, 3), dtype=np.uint8)

    def bands() -> Iterator[np.ndarray]:
        for top in range(0, 90, rows):
            yield pixels[top : top + rows]

    lanczos = Image.Resampling.LANCZOS
    wide = Image.fromarray(pixels).resize((size[0], 90), lanczos)
    expected = np.asarray(wide.resize(size, lanczos))
    found = np.concatenate(list(resampled_rows(bands(), 90, size)))
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 1
