"""What one training step is given."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Samples of one step; what a stage does not read is none.

    Images are uint8 (N, H, W, 3) as stored: a quarter of the bytes to copy to a device.
    """

    keys: tuple[str, ...]
    hr: Tensor | None = None
    """uint8 (N, H, W, 3)."""
    lr: Tensor | None = None
    """uint8 (N, H/4, W/4, 3)."""
    structure: Tensor | None = None
    """float16 or float32 (N, C, H/s, W/s); none in the vanilla-VQ baseline too."""
    codes: Tensor | None = None
    """int64 (N, H/t, W/t)."""


def as_image(stored: Tensor | None, device: torch.device) -> Tensor:
    """uint8 (N, H, W, 3) -> float32 (N, 3, H, W) in [-1, 1], channels last in memory."""
    assert stored is not None, "this stage reads images that its loader did not load"
    return stored.to(device, non_blocking=True).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
