"""Scores and pictures of fixed validation samples during training."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tvqrap.images.tensors import to_uint8
from tvqrap.losses.perceptual_weights import perceptual_distance

DISTANCE: Literal["stlpips_alex", "stlpips_vgg"] = "stlpips_vgg"
"""Perceptual distance that validates every training, whatever its loss."""
PICTURES = 6
"""Samples in a picture."""


@dataclass(frozen=True)
class Validation:
    """Scores and a picture of the validation samples."""

    scores: dict[str, float]
    picture: NDArray[np.uint8]
    """As `picture` makes it."""


def picture(*rows: Tensor) -> NDArray[np.uint8]:
    """Draws the first samples side by side: uint8 (H, W, 3), one row for each of `rows`.

    Rows are (N, 3, h, w) in [-1, 1], such as LR, output and HR. Smaller rows are enlarged by
    repeating pixels.
    """
    side = max(row.shape[-1] for row in rows)
    strips = []
    for row in rows:
        factor = side // row.shape[-1]
        large = row[:PICTURES].repeat_interleave(factor, 2).repeat_interleave(factor, 3)
        strips.append(np.concatenate(to_uint8(large.nan_to_num()), axis=1))
    return np.concatenate(strips)


def psnr(image: Tensor, target: Tensor) -> Tensor:
    """PSNR in dB (N,) over the RGB of images (N, 3, H, W) in [-1, 1], rounded to 8 bit."""
    levels = (image.clamp(-1, 1) * 127.5).round() - (target * 127.5).round()
    return 20 * torch.log10(255 / levels.square().mean((1, 2, 3)).sqrt().clamp_min(1e-6))


class ImageScores:
    """Computes the mean PSNR and ST-LPIPS (VGG)."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.distance = perceptual_distance(DISTANCE).to(device, dtype)

    @torch.no_grad()
    def __call__(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
        """Scores batches of (image, HR), each (N, 3, H, W) in [-1, 1]."""
        scores: dict[str, list[Tensor]] = {"psnr": [], DISTANCE: []}
        for image, target in pairs:
            scores["psnr"].append(psnr(image, target))
            scores[DISTANCE].append(self.distance(image.clamp(-1, 1), target))
        return {name: torch.cat(values).mean().item() for name, values in scores.items()}
