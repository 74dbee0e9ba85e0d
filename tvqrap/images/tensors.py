"""Conversion between 8-bit or 16-bit images and tensors in [-1, 1]."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:  # workers that cut and degrade photographs need no torch, which loads in seconds
    from torch import Tensor


def to_tensor(image: Image.Image | NDArray[np.uint8]) -> "Tensor":
    """An RGB image, or uint8 (..., H, W, 3), as float32 (..., 3, H, W) in [-1, 1]."""
    import torch

    pixels = torch.from_numpy(np.array(image, dtype=np.uint8, order="C"))
    return pixels.movedim(-1, -3).contiguous().float() / 127.5 - 1


def to_uint8(image: "Tensor") -> NDArray[np.uint8]:
    """Float (..., 3, H, W) in [-1, 1] as uint8 (..., H, W, 3): clamped, then rounded to nearest.

    Ties round to even, as torch does; `to_uint8(to_tensor(x))` is x. Raises ValueError for values
    that are not finite.
    """
    levels = _levels(image, 255).byte()
    pixels: NDArray[np.uint8] = levels.movedim(-3, -1).contiguous().cpu().numpy()
    return pixels


def to_uint16(image: "Tensor") -> NDArray[np.uint16]:
    """As `to_uint8`, in 65536 levels."""
    levels = _levels(image, 65535).cpu().numpy()
    return np.moveaxis(levels, -3, -1).astype(np.uint16, order="C")


def _levels(image: "Tensor", highest: int) -> "Tensor":
    """Float in [-1, 1] to whole numbers, still floating, from 0 to `highest`."""
    if not image.isfinite().all():
        raise ValueError("the image holds values that are not finite")
    return ((image.detach().float() + 1) * (highest / 2)).clamp(0, highest).round()
