"""Resizing without antialiasing, equal to `torch.nn.functional.interpolate`.

The usual implementations of the degradation resize with torch. With a scale factor, torch samples
on the grid of 1 / scale whatever the rounded size is, so that LR is slightly shifted against HR.
"""

from functools import lru_cache

import cv2
import numpy as np

from pipeline.config import ResizeFilter

_INTERPOLATION: dict[ResizeFilter, int] = {
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
}


def resize(
    image: np.ndarray, size: tuple[int, int], filter: ResizeFilter, scale: float | None = None
) -> np.ndarray:
    """Resize a float32 (H, W, 3) image to (width, height).

    Without a scale, equal to `interpolate(size=...)`: samples are spread over the whole image.
    With a scale (new over old side), equal to `interpolate(scale_factor=scale)`: samples lie
    1 / scale apart from the top left on. "area" is adaptive average pooling in both cases.
    """
    height, width = image.shape[:2]
    if size == (width, height) and scale in (None, 1):
        return image
    if filter == "area":
        columns = _average_rows(image, size[1]).transpose(1, 0, 2)
        return np.ascontiguousarray(_average_rows(columns, size[0]).transpose(1, 0, 2))
    if scale is None:
        return cv2.resize(image, size, interpolation=_INTERPOLATION[filter])
    # torch copies an axis whose length stays, except with bicubic.
    steps = [
        1.0 if filter == "bilinear" and old == new else 1 / scale
        for old, new in zip((width, height), size, strict=True)
    ]
    matrix = np.array(
        [[steps[0], 0, steps[0] / 2 - 0.5], [0, steps[1], steps[1] / 2 - 0.5]], np.float64
    )
    flags = _INTERPOLATION[filter] | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _average_rows(image: np.ndarray, rows: int) -> np.ndarray:
    """Adaptive average pooling along the first axis: (rows, W, 3) of (H, W, 3)."""
    taps, weights = _pooling_taps(len(image), rows)
    source = np.ascontiguousarray(image).reshape(len(image), -1)
    total = source[taps[0]]
    total *= weights[0]
    part = np.empty_like(total)
    for tap, weight in zip(taps[1:], weights[1:], strict=True):
        np.take(source, tap, axis=0, out=part, mode="clip")
        part *= weight
        total += part
    return total.reshape(rows, *image.shape[1:])


@lru_cache(maxsize=256)
def _pooling_taps(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """Source rows (taps, new) of each new row, and their float32 weights (taps, new, 1).

    New row i is the mean of the rows from floor(i old / new) up to ceil((i + 1) old / new).
    """
    bounds = np.arange(new + 1) * old
    start, end = bounds[:-1] // new, -(-bounds[1:] // new)
    length = end - start
    offsets = np.arange(length.max())[:, None]
    weights = np.where(offsets < length, 1 / length, 0).astype(np.float32)
    return np.minimum(start + offsets, old - 1), weights[..., None]
