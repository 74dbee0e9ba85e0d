"""Gives an upscaled image the local mean colours of its LR image."""

from torch import Tensor
from torch.nn import functional as F

from tvqrap.architecture import SCALE

_MATCH_RADIUS = 8
"""LR pixels over which colours are compared, either way."""


def match_colours(sr: Tensor, lr: Tensor) -> Tensor:
    """Gives (N, 3, 4H, 4W) the local mean colours of (N, 3, H, W).

    Subtracts the blurred difference between the reduced SR image and the LR image.
    """
    shift = F.avg_pool2d(sr, SCALE) - lr
    for _ in range(2):
        shift = F.avg_pool2d(
            shift, 2 * _MATCH_RADIUS + 1, 1, padding=_MATCH_RADIUS, count_include_pad=False
        )
    return sr - F.interpolate(shift, scale_factor=SCALE, mode="bilinear")
