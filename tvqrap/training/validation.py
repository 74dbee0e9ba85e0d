"""Scores on fixed validation samples during training."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def psnr(image: Tensor, target: Tensor) -> Tensor:
    """PSNR in dB (N,) over the RGB of images (N, 3, H, W) in [-1, 1], rounded to 8 bit."""
    levels = (image.clamp(-1, 1) * 127.5).round() - (target * 127.5).round()
    return 20 * torch.log10(255 / levels.square().mean((1, 2, 3)).sqrt().clamp_min(1e-6))


class ImageScores:
    """Means of PSNR and, where there is a perceptual network, of its distance."""

    def __init__(self, perceptual: nn.Module | None) -> None:
        self.perceptual = perceptual

    @torch.no_grad()
    def __call__(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
        """Scores over batches of (image, HR), each (N, 3, H, W) in [-1, 1]."""
        scores: dict[str, list[Tensor]] = {}
        for image, target in pairs:
            scores.setdefault("psnr", []).append(psnr(image, target))
            if self.perceptual is not None:
                distance = self.perceptual(image.clamp(-1, 1), target)
                scores.setdefault("perceptual", []).append(distance)
        return {name: torch.cat(values).mean().item() for name, values in scores.items()}
