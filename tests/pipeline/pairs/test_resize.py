"""Resizing equals torch's, on the grid of the scale and on that of the size."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from pipeline.config import DegradationSettings, ResizeFilter
from pipeline.pairs.degradation import degrade
from pipeline.pairs.resize import resize
from pipeline.rng import random_stream

FILTERS: tuple[ResizeFilter, ...] = ("area", "bilinear", "bicubic")


def by_torch(image: np.ndarray, filter: str, **options: Any) -> np.ndarray:
    """An (H, W, 3) image through torch's `interpolate`."""
    planes = torch.from_numpy(image).permute(2, 0, 1)[None]
    return interpolate(planes, mode=filter, **options)[0].permute(1, 2, 0).numpy()


def cases(count: int) -> list[tuple[np.ndarray, float]]:
    """Images of noise, the hardest content for a grid, and scales of four digits."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        height, width = rng.integers(8, 90, 2)
        scale = round(float(rng.choice([rng.uniform(0.15, 1.5), rng.uniform(0.97, 1.03)])), 4)
        found.append((rng.random((height, width, 3), np.float32), scale))
    return found


@pytest.mark.parametrize("filter", FILTERS)
def test_a_scale_samples_on_the_grid_of_its_inverse(filter: ResizeFilter) -> None:
    for image, scale in cases(300):
        expected = by_torch(image, filter, scale_factor=scale)
        height, width = expected.shape[:2]
        found = resize(image, (width, height), filter, scale)
        np.testing.assert_allclose(found, expected, atol=2e-4, err_msg=f"{image.shape} by {scale}")


@pytest.mark.parametrize("filter", FILTERS)
def test_a_size_spreads_the_samples_over_the_image(filter: ResizeFilter) -> None:
    for image, scale in cases(150):
        height, width = (max(1, int(side * scale)) for side in image.shape[:2])
        expected = by_torch(image, filter, size=(height, width))
        np.testing.assert_allclose(resize(image, (width, height), filter), expected, atol=2e-4)


@pytest.mark.parametrize("filter", FILTERS)
def test_the_same_size_is_the_same_image(filter: ResizeFilter) -> None:
    image = np.random.default_rng(0).random((40, 60, 3), np.float32)
    assert resize(image, (60, 40), filter) is image
    assert resize(image, (60, 40), filter, 1.0) is image


def test_the_first_round_takes_the_grid_of_the_scale(train: DegradationSettings) -> None:
    hr = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    checked = set()
    for index in range(40):
        degraded = degrade(hr, train, random_stream(index), steps=True)
        assert degraded.steps is not None
        first = next(k for k, step in enumerate(degraded.record) if step["step"] == "resize")
        step, before = degraded.record[first], degraded.steps[first - 1]
        expected = by_torch(before, step["filter"], scale_factor=step["scale"])
        np.testing.assert_allclose(degraded.steps[first], expected, atol=2e-4)
        checked.add(step["filter"])
    assert checked == set(FILTERS)
