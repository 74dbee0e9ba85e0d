"""Blockiness: a grid of blocks of the size of codes or LR pixels in an upscaled image.

In natural images, neighbour differences do not depend on position; in blocky output they peak at
block borders. A perceptual distance that tolerates shifts prefers blocks to blur: ST-LPIPS VGG
rates pixels repeated four times closer to HR than bicubic interpolation. These measures do not
depend on the content of an image.
"""

import torch
from torch import Tensor

GRID = 8
"""Period of the grid in pixels; it fits codes at 1/8 and 1/4 of the HR sides, and LR pixels."""
_FLOOR = 1 / 255
"""Mean difference (half a level of 8-bit pixels) below which a grid hardly counts."""


def grid_loss(image: Tensor, target: Tensor) -> Tensor:
    """Distance of an image's grid from its target's: a scalar.

    Images are (N, C, H, W) in [-1, 1], sides 9 or more. The grid of an image is the mean size of
    its horizontal differences at the columns k, k + 8, k + 16 ..., relative to that at all columns.
    k goes from 0 to 7, and rows are treated alike. The loss is the mean squared distance, columns
    and rows added. A target with a grid (from JPEG, say) asks for the same grid.

    Raises:
        ValueError: The images are smaller.
    """
    columns, rows = (
        (_by_place(image, axis) - _by_place(target, axis)).square().mean() for axis in (-1, -2)
    )
    return columns + rows


def grid_strength(image: Tensor) -> Tensor:
    """Strength of the grid in images (N, C, H, W) in [-1, 1]: (N,).

    It is the root mean square of the relative deviation from the mean, over 8 columns and 8 rows.
    0 is no grid; pixels repeated four times have more than 1.
    """
    places = torch.stack([_by_place(image, axis) for axis in (-1, -2)], 1)
    return (places - places.mean(2, keepdim=True)).square().mean((1, 2)).sqrt()


def _by_place(image: Tensor, axis: int) -> Tensor:
    """Mean size of differences along an axis by position in the grid, relative to all: (N, 8)."""
    if image.shape[axis] <= GRID:
        raise ValueError(f"a grid of {GRID} shows from {GRID + 1} pixels a side on")
    sizes = image.diff(dim=axis).abs().mean(1).transpose(-1, axis)
    whole = sizes.shape[-1] // GRID * GRID
    places = sizes[..., :whole].unflatten(-1, (-1, GRID)).mean((1, 2))
    return places / (places.mean(1, keepdim=True) + _FLOOR)
