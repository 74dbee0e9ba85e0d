"""Photographs' pixels on their way through the upscaler."""

from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from tvqrap.photo_io.photo import enlarged_rows, photo_of, photo_of_array


@pytest.mark.parametrize("factor", [4, 2.5, 0.7, 7, 0.1])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_alpha_does_not_hang_on_the_bands(factor: float, dtype: type) -> None:
    rng = np.random.default_rng(0)
    hard = rng.integers(0, 2, (150, 30)).astype(dtype) * np.iinfo(dtype).max
    pixels = np.dstack([np.full((150, 30, 3), 90, dtype), hard])
    photo = photo_of_array(pixels)
    size = (round(30 * factor), round(150 * factor))

    def in_bands(rows: int) -> np.ndarray:
        def upscale(lr: np.ndarray) -> Iterator[np.ndarray]:
            large = lr.repeat(4, 0).repeat(4, 1)
            for top in range(0, len(large), rows):
                yield large[top : top + rows]

        return np.concatenate(list(enlarged_rows(photo, upscale, size)))

    whole = in_bands(600)
    for rows in (64, 37):
        np.testing.assert_array_equal(in_bands(rows), whole)
    if dtype == np.uint8:
        bicubic = Image.Resampling.BICUBIC
        wide = Image.fromarray(hard).resize((size[0], 150), bicubic)
        expected = np.asarray(wide.resize(size, bicubic)).astype(int)
        assert np.abs(whole[..., 3] - expected).max() <= 1


def test_cmyk_becomes_rgb_and_a_broken_profile_is_no_harm() -> None:
    image = Image.new("CMYK", (2, 2), (0, 255, 255, 0))
    image.info["icc_profile"] = b"no profile"
    assert (photo_of(image).pixels == (255, 0, 0)).all()
