"""Blur kernels: Gaussian, generalized Gaussian, plateau-shaped and sinc.

Every kernel is a float64 square of odd size, sums to 1 and is symmetric about its centre. The
Gaussian family follows Real-ESRGAN (Wang et al., 2021, section 3.1): with q = x^T C^-1 x, where C
has the standard deviations along rotated axes,
    Gaussian                exp(-q / 2)
    generalized Gaussian    exp(-q^beta / 2)
    plateau                 1 / (1 + q^beta)
"""

import math
from functools import lru_cache
from typing import Literal

import numpy as np

Shape = Literal["gaussian", "generalized", "plateau"]


def gaussian_kernel(
    size: int, sigma: tuple[float, float], rotation: float, beta: float, shape: Shape
) -> np.ndarray:
    """A kernel of the Gaussian family, (size, size).

    `sigma` is in pixels, along the axis at angle `rotation` (radians, from x towards y) and across
    it. `beta` is used by "generalized" (1 is the Gaussian) and "plateau".
    """
    x = np.arange(size) - (size - 1) / 2
    cos, sin = math.cos(rotation), math.sin(rotation)
    along = cos * x[None, :] + sin * x[:, None]
    across = cos * x[:, None] - sin * x[None, :]
    q = (along / sigma[0]) ** 2 + (across / sigma[1]) ** 2
    if shape == "gaussian":
        kernel = np.exp(-q / 2)
    elif shape == "generalized":
        kernel = np.exp(-(q**beta) / 2)
    else:
        kernel = 1 / (1 + q**beta)
    return kernel / kernel.sum()


def sinc_kernel(size: int, cutoff: float) -> np.ndarray:
    """The circular low-pass filter of a cutoff frequency in radians per pixel, (size, size).

    omega / (2 pi r) J1(omega r), cut to the square (Real-ESRGAN, section 3.3, equation 6).
    """
    squares, places = _squared_radii(size)
    r = np.sqrt(np.maximum(squares, 1))
    values = cutoff * _bessel_j1(cutoff * r) / (2 * math.pi * r)
    values[squares == 0] = cutoff**2 / (4 * math.pi)  # the limit at r = 0
    kernel = values[places].reshape(size, size)
    return kernel / kernel.sum()


@lru_cache(maxsize=64)
def _squared_radii(size: int) -> tuple[np.ndarray, np.ndarray]:
    """The distinct squared distances from the centre, and their index for each place."""
    x = np.arange(size) - size // 2
    squares, places = np.unique((x[:, None] ** 2 + x[None, :] ** 2).ravel(), return_inverse=True)
    return squares.astype(np.float64), places


def _bessel_j1(x: np.ndarray) -> np.ndarray:
    """Bessel function of the first kind and order 1, for a vector of |x| < 100.

    Bessel's integral 1/pi int_0^pi cos(t - x sin t) dt by the midpoint rule, which for a periodic
    integrand is exact to rounding once there are more points than |x| (and a few dozen more).
    """
    points = 160
    t = (np.arange(points) + 0.5) * (math.pi / points)
    return np.cos(t[None, :] - x[:, None] * np.sin(t)[None, :]).mean(axis=1)
