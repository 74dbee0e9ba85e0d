"""A photograph's pixels as the upscaler takes them, and as they go back to a file.

Torch-free, and without files: any Pillow image in; gray, RGB and alpha out.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tvqrap.architecture import SCALE
from tvqrap.images import to_rgb
from tvqrap.resampling import resampled_rows

Pixels = NDArray[np.uint8]

_GRAY_MODES = frozenset({"1", "L", "LA", "La"})


@dataclass(frozen=True)
class Photo:
    """8-bit pixels, upright."""

    pixels: Pixels
    """(H, W, 3); what is hidden under full transparency has the colour of what is visible near."""
    alpha: Pixels | None
    """(H, W), None where all is opaque."""
    gray: bool
    """Whether the photograph has no colours, and is to get none."""


def photo_of(image: Image.Image) -> Photo:
    """Takes an image of any mode; raises ValueError as `tvqrap.images.to_rgb` does."""
    gray = image.mode in _GRAY_MODES or image.mode.startswith("I")
    alpha = None
    if image.has_transparency_data:
        with_alpha = np.array(image.convert("RGBA"))
        pixels, alpha = with_alpha[..., :3], with_alpha[..., 3]
        if alpha.min() == 255:
            alpha = None
        else:
            pixels = fill_hidden(pixels, alpha)
    else:
        pixels = np.array(to_rgb(image))
    return Photo(pixels, alpha, gray)


def fill_hidden(pixels: Pixels, alpha: Pixels) -> Pixels:
    """Spreads colours into what is fully transparent, whatever colour the file hides there.

    (H, W, 3) and (H, W). Without this a hidden black would show as a dark fringe where the
    upscaler mixes it with its neighbours. Unchanged where nothing is visible.
    """
    hidden = alpha == 0
    if hidden.all() or not hidden.any():
        return pixels
    levels = []
    weight = alpha.astype(np.float32)[..., None]
    colour = pixels * weight
    while True:
        levels.append((colour, weight))
        if max(weight.shape[:2]) == 1:
            break
        colour, weight = _halved(colour), _halved(weight)
    filled = levels[-1][0] / np.maximum(levels[-1][1], 1e-6)
    for colour, weight in reversed(levels[:-1]):
        larger = filled.repeat(2, 0).repeat(2, 1)[: weight.shape[0], : weight.shape[1]]
        filled = np.where(weight > 0, colour / np.maximum(weight, 1e-6), larger)
    spread = np.rint(filled).clip(0, 255).astype(np.uint8)
    return np.where(hidden[..., None], spread, pixels)


def enlarged_rows(
    photo: Photo, upscale: Callable[[Pixels], Iterator[Pixels]], size: tuple[int, int]
) -> Iterator[Pixels]:
    """The photograph enlarged to `size` (width, height), from top to bottom.

    `upscale` enlarges (H, W, 3) four times, in bands of rows. What is yielded is uint8 (rows,
    width), gray, or (rows, width, 2, 3 or 4): gray and alpha, RGB, RGB and alpha.
    """
    height, width = photo.pixels.shape[:2]
    rows = upscale(photo.pixels)
    if size != (SCALE * width, SCALE * height):
        rows = resampled_rows(rows, SCALE * height, size)
    top = 0
    for band in rows:
        if photo.gray:
            band = np.asarray(Image.fromarray(band).convert("L"))
        if photo.alpha is not None:
            # Pillow reads beyond the box where its filter is wider: bands meet without a seam.
            factor = height / size[1]
            box = (0, top * factor, width, min(height, (top + len(band)) * factor))
            alpha = Image.fromarray(photo.alpha).resize(
                (size[0], len(band)), Image.Resampling.BICUBIC, box
            )
            band = np.dstack([band, np.asarray(alpha)])
        top += len(band)
        yield band


def _halved(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sums of 2x2 pixels (H, W, C); a last odd row or column stands alone."""
    height, width = values.shape[:2]
    even: NDArray[np.float32] = np.pad(values, ((0, height % 2), (0, width % 2), (0, 0)))
    return even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]
