"""Padding of LR images to the sizes that the network takes, and cropping of its output."""

from __future__ import annotations

import torch
from torch import Tensor

from tvqrap.architecture import SCALE

PAD_MULTIPLE = 64
"""Multiple that LR sides are padded to: the protocol of the published scores."""


def pad_to_multiple(lr: Tensor, multiple: int) -> Tensor:
    """Extends (N, C, H, W) at the bottom and right to sides that `multiple` divides.

    The picture is mirrored at its border (the border itself not doubled); along a side too short
    to mirror, the border is repeated. Group normalisation sees the whole map, so the padding is
    part of the answer: the authors pad to 64.
    """
    for axis in (3, 2):
        side = lr.shape[axis]
        extra = -side % multiple
        if extra:
            lr = lr.index_select(axis, mirrored_places(side, side + extra).to(lr.device))
    return lr


def mirrored_places(side: int, padded: int) -> Tensor:
    """The place (int64) along a side of `side` pixels that each of `padded` pixels is taken from.

    Without a decision in Python, so that a trace for ONNX holds for any size.
    """
    places = torch.arange(padded)
    mirrored = 2 * (side - 1) - places
    # One place beyond the reach of mirroring makes all of them repeat the border.
    beyond = torch.where(mirrored[-1] >= 0, mirrored, places * 0 + (side - 1))
    return torch.where(places < side, places, beyond)


def crop_upscaled(sr: Tensor, lr_height: int, lr_width: int) -> Tensor:
    """The part (N, C, 4 lr_height, 4 lr_width) that belongs to the picture before its padding."""
    return sr[..., : SCALE * lr_height, : SCALE * lr_width]
