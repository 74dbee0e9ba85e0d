"""Second-order degradation of an HR crop to its LR image.

Real-ESRGAN (Wang et al., 2021), as used for this task: [blur, resize, noise, JPEG], with a
probability [blur, resize, noise], then either {resize to LR with a sinc filter, JPEG} or {JPEG,
resize to LR with a sinc filter}. Every number is a setting. Images are float32 (H, W, 3) RGB in
[0, 1] between steps; blurs and bicubic resizes may overshoot, noise and JPEG clip.

Each value is rounded when it is drawn, and the rounded value is used, so that the record is exact
and short.
"""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from PIL import Image

from pipeline.config import (
    BlurSettings,
    DegradationSettings,
    FinalSettings,
    NoiseSettings,
    ResizeSettings,
    SharpenSettings,
)
from pipeline.pairs.kernels import Shape, gaussian_kernel, sinc_kernel
from pipeline.pairs.resize import resize
from tvqrap.architecture import SCALE

# Workers are parallel over samples. One thread within a sample computes the same sums every time.
cv2.setNumThreads(1)

Record = dict[str, Any]
"""The draws of one step; `step` names it."""

_DIGITS = 4


@dataclass(frozen=True)
class Degraded:
    """An LR image and the record of its degradation."""

    image: np.ndarray
    """uint8 (H / 4, W / 4, 3) RGB."""
    record: list[Record]
    """The steps in order, each with its draws."""
    steps: list[np.ndarray] | None
    """With `steps=True`, the float32 image after each step of the record."""


def draw_preset(shares: Mapping[str, float], rng: np.random.Generator) -> str:
    """Draws the name of a preset by the presets' probabilities; a single preset takes no draw."""
    names = list(shares)
    return names[0] if len(names) == 1 else _choose(names, list(shares.values()), rng)


def degrade(
    hr: np.ndarray,
    settings: DegradationSettings,
    rng: np.random.Generator,
    *,
    steps: bool = False,
) -> Degraded:
    """Degrade a uint8 (H, W, 3) RGB image, H and W multiples of 4, with draws from `rng`."""
    height, width = hr.shape[:2]
    if hr.dtype != np.uint8 or hr.ndim != 3 or height % SCALE or width % SCALE:
        raise ValueError(
            f"found {hr.dtype} {hr.shape}, expected uint8 (H, W, 3) with sides of multiples of 4"
        )
    lr_size = (width // SCALE, height // SCALE)
    image = hr.astype(np.float32) / np.float32(255)
    record: list[Record] = []
    images: list[np.ndarray] = []

    def apply(result: tuple[np.ndarray, Record]) -> None:
        nonlocal image
        image = result[0]
        record.append(result[1])
        if steps:
            images.append(image)

    if settings.sharpen is not None:
        apply(_sharpen(image, settings.sharpen))
    first = settings.first
    if rng.random() < first.blur.prob:
        apply(_blur(image, first.blur, rng))
    apply(_resize(image, (width, height), first.resize, rng, by_scale=True))
    apply(_noise(image, first.noise, rng))
    apply(_jpeg(image, first.jpeg, rng))
    second = settings.second
    if second is not None and rng.random() < second.prob:
        if rng.random() < second.blur.prob:
            apply(_blur(image, second.blur, rng))
        apply(_resize(image, lr_size, second.resize, rng, by_scale=False))
        apply(_noise(image, second.noise, rng))
    final = settings.final
    if rng.random() < final.jpeg_last_prob:
        apply(_resize_to_lr(image, lr_size, final, rng))
        apply(_jpeg(image, final.jpeg, rng))
    else:
        apply(_jpeg(image, final.jpeg, rng))
        apply(_resize_to_lr(image, lr_size, final, rng))
    return Degraded(_to_uint8(image), record, images if steps else None)


def sharpen(image: np.ndarray, settings: SharpenSettings) -> np.ndarray:
    """Unsharp masking of a float32 image where it differs enough from its blurred version.

    The Gaussian is separable: two passes of `size` taps replace one of size x size.
    """
    size = (settings.size, settings.size)

    def blurred(values: np.ndarray) -> np.ndarray:
        border = cv2.BORDER_REFLECT_101
        return cv2.GaussianBlur(values, size, settings.sigma, borderType=border)

    residual = image - blurred(image)
    mask = blurred((np.abs(residual) * 255 > settings.threshold).astype(np.float32))
    sharp = np.clip(image + np.float32(settings.weight) * residual, 0, 1)
    return mask * sharp + (1 - mask) * image


def blur(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Filters each channel with a kernel; the border is reflected without repeating the edge."""
    border = cv2.BORDER_REFLECT_101
    middle = len(kernel) // 2
    column, row = kernel[:, middle], kernel[middle] / kernel[middle, middle]
    # Isotropic Gaussians, the most frequent kind, are separable: 0.4 ms instead of 6 for 21 x 21
    # on 256 x 256 pixels.
    if np.abs(np.outer(column, row) - kernel).max() < 1e-12:
        return cv2.sepFilter2D(image, -1, row, column, borderType=border)
    return cv2.filter2D(image, -1, kernel, borderType=border)


def gaussian_noise(
    image: np.ndarray, sigma: float, gray: bool, rng: np.random.Generator
) -> np.ndarray:
    """Add Gaussian noise of `sigma` 8-bit levels, the same on all channels if `gray`; clip."""
    shape = (*image.shape[:2], 1) if gray else image.shape
    noise = rng.standard_normal(shape, np.float32)
    noise *= np.float32(sigma / 255)
    return np.clip(image + noise, 0, 1)


def poisson_noise(
    image: np.ndarray, scale: float, gray: bool, rng: np.random.Generator
) -> np.ndarray:
    """Add `scale` times the Poisson noise of the image's 8-bit levels; clip.

    With levels v / 255 and peak = 2^ceil(log2(number of distinct v)), the noise of a value x is
    Poisson(x peak) / peak - x. If `gray`, it is that of the luminance, on all channels. This is
    the usual definition; a histogram counts the distinct levels, which is faster than sorting.
    """
    base = np.clip(image, 0, 1)
    if gray:
        base = cv2.cvtColor(base, cv2.COLOR_RGB2GRAY)[..., None]
    levels = np.rint(base * 255).astype(np.uint8)
    counts = np.bincount(levels.ravel(), minlength=256)
    peak = 2.0 ** math.ceil(math.log2(np.count_nonzero(counts)))
    expected = levels.astype(np.float32) / np.float32(255)
    noise = (rng.poisson(expected * peak) / peak).astype(np.float32) - expected
    return np.clip(image + np.float32(scale) * noise, 0, 1)


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """Encodes an image as JPEG of this quality with 4:2:0 chroma and decodes it, by libjpeg."""
    stream = io.BytesIO()
    Image.fromarray(_to_uint8(image)).save(stream, "JPEG", quality=quality, subsampling="4:2:0")
    stream.seek(0)
    return np.asarray(Image.open(stream), np.float32) / np.float32(255)


def _sharpen(image: np.ndarray, settings: SharpenSettings) -> tuple[np.ndarray, Record]:
    return sharpen(image, settings), {"step": "sharpen"}


def _blur(
    image: np.ndarray, settings: BlurSettings, rng: np.random.Generator
) -> tuple[np.ndarray, Record]:
    kernel, record = draw_kernel(settings, rng)
    return blur(image, kernel), {"step": "blur"} | record


def draw_kernel(settings: BlurSettings, rng: np.random.Generator) -> tuple[np.ndarray, Record]:
    """Draws a blur kernel, or a sinc kernel in its place, and returns the draws too."""
    size = _odd(settings.sizes, rng)
    sinc = settings.sinc
    if rng.random() < sinc.prob:
        bounds = sinc.cutoff_large if size >= sinc.large_from else sinc.cutoff_small
        cutoff = _uniform(bounds, rng)
        return sinc_kernel(size, cutoff * math.pi), {"kind": "sinc", "size": size, "cutoff": cutoff}
    kind = _choose(list(settings.kinds), list(settings.kinds.values()), rng)
    record: Record = {"kind": kind, "size": size, "sigma": [_uniform(settings.sigma, rng)]}
    rotation, beta = 0.0, 1.0
    if kind.endswith("aniso"):
        record["sigma"].append(_uniform(settings.sigma, rng))
        record["rotation"] = rotation = _uniform(settings.rotation, rng)
    shape: Shape = "gaussian"
    if kind.startswith(("generalized", "plateau")):
        shape = "generalized" if kind.startswith("generalized") else "plateau"
        low, high = getattr(settings, f"beta_{shape}")
        below = rng.random() < settings.low_beta_prob
        record["beta"] = beta = _uniform((low, 1) if below else (1, high), rng)
    sigma = (record["sigma"][0], record["sigma"][-1])
    return gaussian_kernel(size, sigma, rotation * math.pi, beta, shape), record


def _resize(
    image: np.ndarray,
    base: tuple[int, int],
    settings: ResizeSettings,
    rng: np.random.Generator,
    *,
    by_scale: bool,
) -> tuple[np.ndarray, Record]:
    """Resize to a drawn scale of `base` (width, height), rounded down.

    The usual implementations give torch the scale in the first round, whose base is the image, and
    the size in the second.
    """
    low, high = settings.scale
    mode = _choose(["up", "down", "keep"], [settings.up, settings.down, settings.keep], rng)
    bounds = {"up": (1.0, high), "down": (low, 1.0), "keep": (1.0, 1.0)}[mode]
    scale = _uniform(bounds, rng)
    filter = settings.filters[int(rng.integers(len(settings.filters)))]
    width, height = (max(1, int(side * scale)) for side in base)
    record = {"step": "resize", "scale": scale, "size": [width, height], "filter": filter}
    return resize(image, (width, height), filter, scale if by_scale else None), record


def _noise(
    image: np.ndarray, settings: NoiseSettings, rng: np.random.Generator
) -> tuple[np.ndarray, Record]:
    gaussian = rng.random() < settings.gaussian_prob
    gray = bool(rng.random() < settings.gray_prob)
    if gaussian:
        sigma = _uniform(settings.sigma, rng)
        noisy = gaussian_noise(image, sigma, gray, rng)
        return noisy, {"step": "noise", "kind": "gaussian", "sigma": sigma, "gray": gray}
    scale = _uniform(settings.poisson_scale, rng)
    noisy = poisson_noise(image, scale, gray, rng)
    return noisy, {"step": "noise", "kind": "poisson", "scale": scale, "gray": gray}


def _jpeg(
    image: np.ndarray, bounds: tuple[int, int], rng: np.random.Generator
) -> tuple[np.ndarray, Record]:
    quality = int(rng.integers(bounds[0], bounds[1], endpoint=True))
    return jpeg(image, quality), {"step": "jpeg", "quality": quality}


def _resize_to_lr(
    image: np.ndarray,
    size: tuple[int, int],
    settings: FinalSettings,
    rng: np.random.Generator,
) -> tuple[np.ndarray, Record]:
    filter = settings.filters[int(rng.integers(len(settings.filters)))]
    image = resize(image, size, filter)
    record: Record = {"step": "lr", "filter": filter, "sinc": None}
    if rng.random() < settings.sinc_prob:
        kernel_size, cutoff = _odd(settings.sizes, rng), _uniform(settings.cutoff, rng)
        image = blur(image, sinc_kernel(kernel_size, cutoff * math.pi))
        record["sinc"] = {"size": kernel_size, "cutoff": cutoff}
    return image, record


def _uniform(bounds: tuple[float, float], rng: np.random.Generator) -> float:
    return round(float(rng.uniform(*bounds)), _DIGITS)


def _odd(bounds: tuple[int, int], rng: np.random.Generator) -> int:
    return int(bounds[0] + 2 * rng.integers((bounds[1] - bounds[0]) // 2 + 1))


def _choose(names: Sequence[str], shares: Sequence[float], rng: np.random.Generator) -> str:
    place = np.searchsorted(np.cumsum(shares), rng.random(), side="right")
    return names[min(int(place), len(names) - 1)]


def _to_uint8(image: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
