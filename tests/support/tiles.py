"""Networks and images with which what tiles do can be seen."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from tests.support.upscaling import TINY


class Enlarging(nn.Module):
    """In a network's place: enlarges plainly, so that what tiles do can be seen."""

    architecture = TINY

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        assert all(side % 32 == 0 for side in lr.shape[2:])
        return F.interpolate(lr, scale_factor=4, mode="nearest")


def pixels(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
