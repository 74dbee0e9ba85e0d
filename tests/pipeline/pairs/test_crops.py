"""Crops: rules, bounds, and that they do not depend on one another."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pipeline.pairs.crops import NO_LIMIT, capacities, capacity, cut, plan_crop
from tests.support.pairs import texture

sides = st.integers(40, 400)
rules = st.sampled_from(["full", "square", "zoom", "centre"])


@given(rules, sides, sides, st.integers(0, 30), st.integers(0, 99))
def test_crops_lie_inside_and_have_the_size(rule, width, height, index, seed):
    size = 64
    available = capacity(rule, width, height, size)
    assume(available is None or index < available)
    crop = plan_crop(rule, width, height, size, True, 0.0, index, (seed,))
    assert crop == plan_crop(rule, width, height, size, True, 0.0, index, (seed,))
    if rule in ("square", "zoom"):
        assert 0 <= crop.left <= width - crop.side
        assert 0 <= crop.top <= height - crop.side
        assert size <= crop.side <= min(width, height)
    photo = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    hr = cut(photo, rule, size, crop)
    assert hr.shape == (size, size, 3)
    assert hr.dtype == np.uint8


def test_full_crops_are_the_photographs_own_pixels_reflected_where_it_is_small():
    photo = texture(1, 40, 200)
    crop = plan_crop("full", 200, 40, 64, False, 0.0, 0, (1,))
    hr = cut(photo, "full", 64, crop)
    np.testing.assert_array_equal(hr[:40], photo[:, crop.left : crop.left + 64])
    np.testing.assert_array_equal(hr[40:], hr[15:39][::-1])


def test_square_crops_are_area_averages():
    photo = texture(2, 128, 300)
    crop = plan_crop("square", 300, 128, 32, False, 0.0, 0, (1,))
    assert crop.side == 128
    part = photo[:, crop.left : crop.left + 128].astype(float)
    expected = part.reshape(32, 4, 32, 4, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(cut(photo, "square", 32, crop), expected, atol=0.51)


def test_zoom_sides_are_log_uniform():
    sides = [plan_crop("zoom", 800, 640, 40, False, 0.0, index, (1,)).side for index in range(2000)]
    logs = np.log(np.array(sides) / 40) / np.log(16)
    assert abs(np.histogram(logs, 4, (0, 1))[0] - 500).max() < 4.5 * 20


def test_centre_crops_start_in_the_centre_and_never_repeat():
    count = capacity("centre", 450, 300, 64)
    assert count == 33
    crops = [plan_crop("centre", 450, 300, 64, False, 0.0, index, (1,)) for index in range(count)]
    assert [crop.left for crop in crops[:3]] == [16, 0, 32]
    assert sorted(crop.left for crop in crops) == list(range(33))
    assert {crop.top for crop in crops} == {0}
    with pytest.raises(ValueError, match="no crop 33"):
        plan_crop("centre", 450, 300, 64, False, 0.0, 33, (1,))
    upright = plan_crop("centre", 300, 450, 64, False, 0.0, 0, (1,))
    assert (upright.left, upright.top) == (0, 16)


def test_too_small_photographs_have_no_crops_but_full_ones():
    assert [capacity(rule, 100, 63, 64) for rule in ("square", "zoom", "centre")] == [0, 0, 0]
    assert capacity("full", 100, 63, 64) is None


def test_flips_mirror_half_of_the_crops_and_leave_boxes_alone():
    plain = [plan_crop("zoom", 300, 200, 64, False, 0.0, index, (1,)) for index in range(400)]
    flips = [plan_crop("zoom", 300, 200, 64, True, 0.0, index, (1,)) for index in range(400)]
    assert not any(crop.flip for crop in plain)
    assert 150 < sum(crop.flip for crop in flips) < 250
    assert [(c.left, c.top, c.side) for c in plain] == [(c.left, c.top, c.side) for c in flips]
    index = next(index for index, crop in enumerate(flips) if crop.flip)
    photo = texture(3, 200, 300)
    np.testing.assert_array_equal(
        cut(photo, "zoom", 64, flips[index]), cut(photo, "zoom", 64, plain[index])[:, ::-1]
    )


def test_recoloured_crops_are_the_same_crops_with_channels_in_any_other_order():
    plain = [plan_crop("zoom", 300, 200, 64, True, 0.0, index, (1,)) for index in range(600)]
    crops = [plan_crop("zoom", 300, 200, 64, True, 0.5, index, (1,)) for index in range(600)]
    assert [(c.left, c.top, c.side, c.flip) for c in plain] == [
        (c.left, c.top, c.side, c.flip) for c in crops
    ]
    counts = Counter(crop.channels for crop in crops)
    assert 240 < counts.pop((0, 1, 2)) < 360
    assert len(counts) == 5
    assert min(counts.values()) > 35
    photo = texture(3, 200, 300)
    index = next(index for index, crop in enumerate(crops) if crop.channels == (2, 0, 1))
    np.testing.assert_array_equal(
        cut(photo, "zoom", 64, crops[index]), cut(photo, "zoom", 64, plain[index])[..., [2, 0, 1]]
    )


@given(
    st.sampled_from(["full", "square", "zoom", "centre"]),
    st.lists(st.tuples(st.integers(1, 9000), st.integers(1, 9000)), min_size=1, max_size=20),
    st.integers(8, 600),
)
def test_capacities_of_many_are_those_of_each(mode, sides, size):
    widths, heights = np.array(sides, np.int32).T
    each = [capacity(mode, width, height, size) for width, height in sides]
    found = capacities(mode, widths, heights, size)
    assert found.tolist() == [NO_LIMIT if limit is None else limit for limit in each]
