"""Tiles along a side."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvqrap.upscaling.tile_norms import patch_places
from tvqrap.upscaling.tiles import (
    LARGEST_TILE,
    LARGEST_WHOLE,
    TileLimits,
    limits_that_fit,
    tiles_along,
)


@given(st.integers(1, 200), st.integers(2, 12), st.integers(0, 6), st.sampled_from([1, 8, 16, 32]))
def test_they_cover_the_side_with_the_overlap_asked_for(
    units: int, tile: int, overlap: int, multiple: int
) -> None:
    side, overlap = units * multiple, min(overlap, tile // 2) * multiple
    tiles = tiles_along(side, tile * multiple, overlap, multiple)
    assert tiles.size <= tile * multiple and tiles.size % multiple == 0
    assert tiles.starts[0] == 0 and tiles.starts[-1] + tiles.size == side
    for start, following in zip(tiles.starts, tiles.starts[1:], strict=False):
        assert start % multiple == 0
        assert start < following <= start + tiles.size - overlap
    total = np.zeros(4 * side)
    for start, weights in zip(tiles.starts, tiles.weights(), strict=True):
        total[4 * start :][: len(weights)] += weights
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_they_are_no_larger_than_they_need_to_be() -> None:
    assert tiles_along(640, 256, 16, 16).size == 224  # three of them, overlapping by 16
    assert tiles_along(256, 256, 16, 16).starts == (0,)


@pytest.mark.parametrize(
    ("free", "side", "whole"),
    [
        (None, LARGEST_TILE, LARGEST_TILE**2),
        (1e12, LARGEST_TILE, LARGEST_WHOLE),
        (4e9, LARGEST_TILE, 166_666),
        (1e9, 192, 41_666),
        (2e6, 32, 1024),
        (0, 32, 1024),
    ],
)
def test_the_limits_follow_the_free_memory(free: float | None, side: int, whole: int) -> None:
    per_pixel = 12_000
    limits = limits_that_fit(free, per_pixel, 16, 16)
    assert limits == TileLimits(side, 16, whole)
    if free and side > 32:
        assert max(side**2, whole) * per_pixel <= free / 2


@pytest.mark.parametrize("multiple", [8, 16, 48])
def test_limits_shrink_to_the_smallest_tile(multiple: int) -> None:
    """The whole is given up first; then tiles keep their multiple and an overlap that they can."""
    limits = limits_that_fit(1e12, 1.0, multiple, 16)
    assert limits.whole == LARGEST_WHOLE
    smaller = limits.smaller(multiple)
    assert smaller == TileLimits(limits.tile, 16, limits.tile**2)
    while smaller is not None:
        last, smaller = smaller, smaller.smaller(multiple)
        assert last.tile % multiple == 0 and last.overlap <= last.tile // 2
        assert last.whole == last.tile**2
    assert last.tile == max(64, 2 * multiple)


@pytest.mark.parametrize("size", [(1024, 2048), (64, 4096), (320, 256), (64, 64)])
def test_patches_lie_in_the_image_apart_from_each_other(size: tuple[int, int]) -> None:
    seen = np.zeros(size, int)
    for patch in patch_places(*size, side=128, most=4, multiple=16):
        assert patch.top % 16 == patch.left % 16 == 0
        part = seen[patch.top :, patch.left :][: patch.height, : patch.width]
        assert part.shape == (patch.height, patch.width)
        part += 1
    assert 0 < seen.sum() <= 4 * 128**2 and seen.max() == 1
