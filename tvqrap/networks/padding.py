"""Padding of LR images to the sizes that the network takes, and cropping of its output."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from tvqrap.architecture import SCALE

PAD_MULTIPLE = 64
"""Multiple that LR sides are padded to: the protocol of the published scores."""


def pad_to_multiple(lr: Tensor, multiple: int) -> Tensor:
    """Extends (N, C, H, W) at the bottom and right to sides that `multiple` divides.

    The picture is mirrored at its border (the border itself not doubled); along a side too short
    to mirror, the border is repeated. Group normalisation sees the whole map, so the padding is
    part of the answer: the authors pad to 64.
    """
    for axis, side in ((3, lr.shape[3]), (2, lr.shape[2])):
        extra = -side % multiple
        if extra:
            padding = (0, extra, 0, 0) if axis == 3 else (0, 0, 0, extra)
            lr = F.pad(lr, padding, mode="reflect" if extra < side else "replicate")
    return lr


def crop_upscaled(sr: Tensor, lr_height: int, lr_width: int) -> Tensor:
    """The part (N, C, 4 lr_height, 4 lr_width) that belongs to the picture before its padding."""
    return sr[..., : SCALE * lr_height, : SCALE * lr_width]
