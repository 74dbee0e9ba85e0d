"""Means over photographs and their intervals."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvqrap.evaluation.statistics.intervals import (
    FEWEST_FOR_VERDICT,
    FEWEST_PHOTOS,
    mean_interval,
    p_of_zero_mean,
)

numbers = st.floats(-100, 100)
photos = st.dictionaries(
    st.text(min_size=1, max_size=3),
    st.lists(numbers, min_size=1, max_size=4),
    min_size=FEWEST_PHOTOS,
)


def values_of(numbers: np.ndarray) -> dict[str, list[float]]:
    return {f"{k:03}": [float(value)] for k, value in enumerate(numbers)}


def test_each_photograph_counts_once() -> None:
    interval = mean_interval({"a": [1.0, 1.0, 1.0, 1.0], "b": [3.0]}, 0.95)
    assert (interval.mean, interval.photos, interval.images) == (2.0, 2, 5)


def test_the_interval_is_students() -> None:
    interval = mean_interval(values_of(np.arange(1.0, 6.0)), 0.95)
    half = 2.7764451051977987 * np.sqrt(2.5 / 5)  # the quantile for 4 degrees of freedom
    assert interval.low == pytest.approx(3 - half) and interval.high == pytest.approx(3 + half)


@pytest.mark.parametrize("count", [1, FEWEST_PHOTOS - 1])
def test_few_photographs_have_no_interval(count: int) -> None:
    values = {str(k): [1.0, 1.0 + k] for k in range(count)}
    interval = mean_interval(values, 0.95)
    assert interval.low is interval.high is interval.shown(2, "-") is None
    assert (interval.photos, interval.images) == (count, 2 * count)
    values[str(count)] = [1.0]
    assert (mean_interval(values, 0.95).low is None) == (count + 1 < FEWEST_PHOTOS)


@given(photos)
def test_the_interval_is_around_the_mean_in_any_order(values: dict[str, list[float]]) -> None:
    interval = mean_interval(values, 0.95)
    assert interval.low is not None and interval.high is not None
    assert interval.low <= interval.mean <= interval.high
    assert mean_interval(dict(reversed(values.items())), 0.95) == interval


def test_more_confidence_is_a_wider_interval() -> None:
    values = values_of(np.arange(12.0) ** 2)
    narrow, wide = mean_interval(values, 0.5), mean_interval(values, 0.99)
    assert wide.low and narrow.low and narrow.high and wide.high
    assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high


def test_nan_is_never_averaged() -> None:
    with pytest.raises(ValueError, match="not finite"):
        mean_interval({"a": [1.0], "b": [float("nan")]}, 0.95)
    with pytest.raises(ValueError, match="no values"):
        mean_interval({"a": []}, 0.95)


def test_a_p_value_belongs_to_the_interval() -> None:
    rng = np.random.default_rng(0)
    for shift in (0.0, 0.3, 1.0):
        values = values_of(rng.normal(shift, 1, 12))
        p = p_of_zero_mean(values)
        assert p is not None
        interval = mean_interval(values, 1 - p)
        assert interval.low is not None and interval.high is not None
        assert min(abs(interval.low), abs(interval.high)) < 1e-9
    assert p_of_zero_mean(values_of(np.zeros(12))) == 1
    assert p_of_zero_mean(values_of(np.ones(12))) == 0
    assert p_of_zero_mean(values_of(np.ones(FEWEST_FOR_VERDICT - 1))) is None


DRAWS: dict[str, tuple[Callable[[np.random.Generator, int], np.ndarray], float, list[int]]] = {
    "normal": (lambda rng, n: rng.normal(size=n), 0.0, [5, 6, 8, 10, 20, 30]),
    "exponential": (lambda rng, n: rng.exponential(size=n), 1.0, [10, 20, 30]),
}
"""By name: draws of photographs' values, their mean, and how many of them are drawn."""
TRIES = 2000


@pytest.mark.slow
def test_coverage_of_the_intervals() -> None:
    rng = np.random.default_rng(0)
    held: dict[str, dict[int, float]] = {name: {} for name in DRAWS}
    for name, (draw, mean, counts) in DRAWS.items():
        for count in counts:
            hits = 0
            for _ in range(TRIES):
                interval = mean_interval(values_of(draw(rng, count)), 0.95)
                assert interval.low is not None and interval.high is not None
                hits += interval.low <= mean <= interval.high
            held[name][count] = hits / TRIES
    assert all(0.93 <= share <= 0.97 for share in held["normal"].values()), held
    assert all(share > 0.87 for share in held["exponential"].values()), held
