"""Resampling an image band by band, without holding it whole."""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Band = NDArray[np.uint8] | NDArray[np.uint16]

_LOBES = 3
"""Reach of the Lanczos filter, in pixels of the coarser image."""


def resampled_rows(
    bands: Iterator[Band],
    height: int,
    new_size: tuple[int, int],
    kernel: Image.Resampling = Image.Resampling.LANCZOS,
) -> Iterator[Band]:
    """Resamples an image of `height` rows to `new_size` (width, height).

    `bands` are (rows, width, 3) or (rows, width) from top to bottom; so are the yielded bands, of
    the same type. The result does not depend on the bands: it is the whole image resampled first
    along its rows and then along its columns. `kernel` reaches no further than Lanczos.
    """
    factor = height / new_size[1]
    reach = math.ceil(_LOBES * max(1.0, factor)) + 1
    held: Band | None = None
    first = done = 0
    for band in bands:
        # One direction at a time: Pillow's order follows the sizes, and changes the last bits.
        wide = _resized(band, (new_size[0], len(band)), (0, len(band)), kernel)
        held = wide if held is None else np.concatenate([held, wide])
        end = first + len(held)
        ready = new_size[1] if end == height else math.floor((end - reach) / factor)
        if ready <= done:
            continue
        span = (done * factor - first, min(len(held), ready * factor - first))
        yield _resized(held, (new_size[0], ready - done), span, kernel)
        done = ready
        dropped = max(0, math.floor(done * factor) - reach - first)
        held, first = held[dropped:], first + dropped


def _resized(
    pixels: Band, size: tuple[int, int], span: tuple[float, float], kernel: Image.Resampling
) -> Band:
    """The rows in `span` resampled to `size`; the filter also reads rows beyond the span."""
    box = (0, span[0], pixels.shape[1], span[1])
    if pixels.dtype == np.uint8:
        return np.asarray(Image.fromarray(pixels).resize(size, kernel, box))
    # Pillow has no 16-bit colours: one channel at a time, as 32-bit numbers.
    channels = [
        np.asarray(Image.fromarray(channel).resize(size, kernel, box))
        for channel in np.moveaxis(np.atleast_3d(pixels), 2, 0).astype(np.float32)
    ]
    levels = np.rint(np.stack(channels, axis=2)).clip(0, 65535).astype(np.uint16)
    return levels if pixels.ndim == 3 else levels[..., 0]
