"""Histograms of codes compared."""

import numpy as np
import pytest

from pipeline.tokens.statistics import jensen_shannon


def test_divergence_of_known_histograms() -> None:
    one, other = np.array([4, 4, 0, 0]), np.array([0, 0, 7, 7])
    assert jensen_shannon(one, 3 * one) == 0
    assert jensen_shannon(one, other) == pytest.approx(1)
    half = np.array([1, 0])
    # Halfway between (1, 0) and (1/2, 1/2) is (3/4, 1/4).
    expected = (np.log2(4 / 3) + 0.5 * np.log2(2 / 3) + 0.5 * np.log2(2)) / 2
    assert jensen_shannon(half, np.array([5, 5])) == pytest.approx(expected)
    assert jensen_shannon(half, np.array([5, 5])) == jensen_shannon(np.array([5, 5]), half)
