"""Kernels: sums, symmetries, special cases and an independent Bessel function."""

import math
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.pairs.kernels import gaussian_kernel, sinc_kernel

odd = st.integers(1, 10).map(lambda half: 2 * half + 1)
sigmas = st.floats(0.2, 3)
shapes = st.sampled_from(["gaussian", "generalized", "plateau"])


@given(odd, sigmas, sigmas, st.floats(-math.pi, math.pi), st.floats(0.5, 4), shapes)
def test_gaussian_family_sums_to_one_and_is_symmetric(size, along, across, angle, beta, shape):
    kernel = gaussian_kernel(size, (along, across), angle, beta, shape)
    assert kernel.shape == (size, size)
    assert kernel.min() >= 0
    assert kernel.sum() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1], rtol=1e-6, atol=1e-15)


@given(odd, sigmas, st.floats(-math.pi, math.pi), st.floats(0.5, 4), shapes)
def test_equal_sigmas_make_a_kernel_isotropic(size, sigma, angle, beta, shape):
    kernel = gaussian_kernel(size, (sigma, sigma), angle, beta, shape)
    np.testing.assert_allclose(kernel, kernel.T, rtol=1e-6, atol=1e-15)
    np.testing.assert_allclose(kernel, kernel[::-1], rtol=1e-6, atol=1e-15)


@given(odd, sigmas, sigmas)
def test_a_quarter_turn_swaps_the_axes(size, along, across):
    turned = gaussian_kernel(size, (along, across), math.pi / 2, 1, "gaussian")
    swapped = gaussian_kernel(size, (across, along), 0, 1, "gaussian")
    np.testing.assert_allclose(turned, swapped, atol=1e-12)


def test_rotation_goes_from_x_towards_y():
    kernel = gaussian_kernel(21, (3, 0.5), math.pi / 4, 1, "gaussian")
    assert kernel[15, 15] > 100 * kernel[5, 15]  # row and column grow together


def test_variances_are_those_asked_for():
    kernel = gaussian_kernel(41, (3, 1.5), 0, 1, "gaussian")
    x = np.arange(41) - 20
    assert (kernel.sum(0) * x**2).sum() == pytest.approx(9, rel=1e-3)
    assert (kernel.sum(1) * x**2).sum() == pytest.approx(2.25, rel=1e-3)


@given(odd, sigmas, sigmas, st.floats(-math.pi, math.pi))
def test_beta_one_is_the_plain_case(size, along, across, angle):
    plain = gaussian_kernel(size, (along, across), angle, 1, "gaussian")
    general = gaussian_kernel(size, (along, across), angle, 1, "generalized")
    np.testing.assert_allclose(plain, general, rtol=1e-9)


@given(odd, st.floats(0.2 * math.pi, math.pi))
def test_sinc_sums_to_one_and_has_all_symmetries(size, cutoff):
    kernel = sinc_kernel(size, cutoff)
    assert kernel.sum() == pytest.approx(1, abs=1e-12)
    for other in (kernel.T, kernel[::-1], kernel[:, ::-1]):
        np.testing.assert_allclose(kernel, other, atol=1e-14)


@pytest.mark.parametrize(("size", "cutoff"), [(7, 1.1), (13, 2.0), (21, math.pi)])
def test_sinc_against_the_power_series_of_j1(size, cutoff):
    @cache
    def j1(x: float) -> float:
        # Exact fractions keep the alternating series from cancelling.
        half, term, total = Fraction(x) / 2, Fraction(x) / 2, Fraction(0)
        for m in range(120):
            total += term
            term = -term * half * half / ((m + 1) * (m + 2))
        return float(total)

    expected = np.empty((size, size))
    for row in range(size):
        for column in range(size):
            r = math.hypot(row - size // 2, column - size // 2)
            expected[row, column] = (
                cutoff * j1(round(cutoff * r, 9)) / (2 * math.pi * r)
                if r
                else cutoff**2 / (4 * math.pi)
            )
    np.testing.assert_allclose(sinc_kernel(size, cutoff), expected / expected.sum(), atol=1e-8)
