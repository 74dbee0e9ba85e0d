"""Grids that an upscaler leaves: squares of the size of codes or LR pixels.

In a photograph, differences between neighbouring pixels know no grid; in an image drawn in squares
they are large where squares meet and small inside. A perceptual distance that tolerates shifts
prefers such squares to blur: ST-LPIPS VGG takes pixels repeated four times for closer to HR than
bicubic interpolation. What is measured here is blind to what is drawn.
"""

import torch
from torch import Tensor

GRID = 8
"""Pixels after which a grid repeats: of codes at 1/8 and at 1/4 of the HR sides, of LR pixels."""
_FLOOR = 1 / 255
"""Contrast (half a level of 8-bit pixels) under which differences stop to count as a grid."""


def grid_loss(image: Tensor, target: Tensor) -> Tensor:
    """How far the differences of an image lie on another grid than its target's: a scalar.

    Of each image (N, C, H, W) in [-1, 1], sides 9 or more: the mean size of the horizontal
    differences at the columns k, k + 8, k + 16 ... relative to that at all columns, k from 0 to 7,
    and of the vertical ones likewise. The mean squared distance from the target's, columns and rows
    added. A target with a grid of its own (an old JPEG file's) asks for the same one.

    Raises ValueError for smaller images.
    """
    columns, rows = (
        (_by_place(image, axis) - _by_place(target, axis)).square().mean() for axis in (-1, -2)
    )
    return columns + rows


def grid_strength(image: Tensor) -> Tensor:
    """How much the differences of images (N, C, H, W) in [-1, 1] depend on their place: (N,).

    Root mean square, over 8 columns and 8 rows, of the places' relative difference from the mean:
    0 is no grid; pixels repeated four times have more than 1.
    """
    places = torch.stack([_by_place(image, axis) for axis in (-1, -2)], 1)
    return (places - places.mean(2, keepdim=True)).square().mean((1, 2)).sqrt()


def _by_place(image: Tensor, axis: int) -> Tensor:
    """Mean size of the differences along an axis by place in the grid, relative to all: (N, 8)."""
    if image.shape[axis] <= GRID:
        raise ValueError(f"a grid of {GRID} shows from {GRID + 1} pixels a side on")
    sizes = image.diff(dim=axis).abs().mean(1).transpose(-1, axis)
    whole = sizes.shape[-1] // GRID * GRID
    places = sizes[..., :whole].unflatten(-1, (-1, GRID)).mean((1, 2))
    return places / (places.mean(1, keepdim=True) + _FLOOR)
