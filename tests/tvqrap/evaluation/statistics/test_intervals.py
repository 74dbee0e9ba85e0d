"""Means over photographs and their intervals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvqrap.evaluation.statistics.intervals import FEWEST_PHOTOS, Resampling, mean_interval
from tvqrap.evaluation.statistics.paired import verdict

RESAMPLING = Resampling(samples=200, confidence=0.9, seed=3)
numbers = st.floats(-100, 100)
photos = st.dictionaries(
    st.text(min_size=1, max_size=3),
    st.lists(numbers, min_size=1, max_size=4),
    min_size=FEWEST_PHOTOS,
)


def test_each_photograph_counts_once() -> None:
    interval = mean_interval({"a": [1.0, 1.0, 1.0, 1.0], "b": [3.0]}, RESAMPLING)
    assert (interval.mean, interval.photos, interval.images) == (2.0, 2, 5)


@pytest.mark.parametrize("count", [1, FEWEST_PHOTOS - 1])
def test_few_photographs_have_no_interval(count: int) -> None:
    values = {str(k): [1.0, 1.0 + k] for k in range(count)}
    interval = mean_interval(values, RESAMPLING)
    assert interval.low is interval.high is interval.shown(2, "-") is None
    assert (interval.photos, interval.images) == (count, 2 * count)
    assert verdict(interval, "higher") == "not told apart"
    values[str(count)] = [1.0]
    assert (mean_interval(values, RESAMPLING).low is None) == (count + 1 < FEWEST_PHOTOS)


@given(photos)
def test_the_interval_lies_within_the_photographs(values: dict[str, list[float]]) -> None:
    interval = mean_interval(values, RESAMPLING)
    assert interval.low is not None and interval.high is not None
    means = [sum(crops) / len(crops) for crops in values.values()]
    assert min(means) - 1e-9 <= interval.low <= interval.high <= max(means) + 1e-9
    assert mean_interval(dict(reversed(values.items())), RESAMPLING) == interval


def test_more_confidence_is_a_wider_interval() -> None:
    values = {str(k): [float(k * k)] for k in range(12)}
    narrow = mean_interval(values, Resampling(2000, 0.5, 0))
    wide = mean_interval(values, Resampling(2000, 0.99, 0))
    assert wide.low and narrow.low and narrow.high and wide.high
    assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high


def test_nan_is_never_averaged() -> None:
    with pytest.raises(ValueError, match="not finite"):
        mean_interval({"a": [1.0], "b": [float("nan")]}, RESAMPLING)
    with pytest.raises(ValueError, match="no values"):
        mean_interval({"a": []}, RESAMPLING)
