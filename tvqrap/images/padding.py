"""Padding of LR images to the sizes that the network takes, and cropping of its output."""

from __future__ import annotations

import torch
from torch import Tensor

from tvqrap.architecture import SCALE

PAD_MULTIPLE = 64
"""Multiple that LR sides are padded to: the protocol of the published scores."""


def pad_to_multiple(lr: Tensor, multiple: int) -> Tensor:
    """Extends (N, C, H, W) at the bottom and right to sides that `multiple` divides.

    The image is mirrored as `mirrored_positions` says. Group normalisation covers the whole map, so
    the padding changes the result; the authors pad to 64.
    """
    for axis in (2, 3):
        side = lr.shape[axis]
        if side % multiple:
            positions = mirrored_positions(side, side + -side % multiple)
            lr = lr.index_select(axis, positions.to(lr.device))
    return lr


def mirrored_positions(side: int, padded: int) -> Tensor:
    """Positions in a side whose pixels fill the padded side: int64 (padded).

    The border pixel is not doubled. If the side is too short to mirror, its last pixel is repeated.
    The result can be traced for sizes that vary.
    """
    positions = torch.arange(padded)
    mirrored = 2 * (side - 1) - positions
    # One position that mirroring cannot reach makes all of them repeat the last pixel.
    beyond = torch.where(mirrored[-1] >= 0, mirrored, positions * 0 + (side - 1))
    return torch.where(positions < side, positions, beyond)


def crop_upscaled(sr: Tensor, lr_height: int, lr_width: int) -> Tensor:
    """Crops an upscaled padded image to (N, C, 4 lr_height, 4 lr_width)."""
    return sr[..., : SCALE * lr_height, : SCALE * lr_width]
