"""Random augmentation of a pair of images before a perceptual distance compares them.

A network that is trained long with one distance learns faults that the distance does not see: fine
hatching and dots, which the distance takes for texture. They depend on direction, size in pixels
and order of colours. The augmentation changes these at random, alike for both images, so that no
fault stays unseen (Kettunen, Härkönen and Lehtinen, "E-LPIPS:
Robust Perceptual Image Similarity via Random Transformation Ensembles", 2019).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tvqrap.losses.perceptual import SMALLEST_SIDE

_RESIZED = 0.75
_SIZES = (0.5, 2.0)
_BRIGHTNESS = (0.6, 1.0)


@dataclass(frozen=True)
class View:
    """One augmentation; the default changes nothing."""

    mirrored: bool = False
    upside_down: bool = False
    transposed: bool = False
    channels: tuple[int, int, int] = (0, 1, 2)
    """Channels that become the first, second and third."""
    brightness: float = 1.0
    """Factor of pixel values, with black at 0."""
    size: float = 1.0
    """Factor of the sides. Reduced images have sides of 21 pixels or more; enlarged ones are
    cropped to the original size."""
    place: tuple[float, float] = (0.0, 0.0)
    """Position of the crop of enlarged images: 0 is at the top or left, 1 at the other end."""

    def of(self, images: Tensor) -> Tensor:
        """Augments images (N, 3, H, W) in [-1, 1] to (N, 3, h, w)."""
        axes = [-1] * self.mirrored + [-2] * self.upside_down
        images = images.flip(axes) if axes else images
        images = images.mT if self.transposed else images
        if self.channels != (0, 1, 2):
            order = torch.tensor(self.channels).to(images.device, non_blocking=True)
            images = images[:, order]
        if self.brightness != 1:
            images = (images + 1) * self.brightness - 1
        return images if self.size == 1 else self._resized(images)

    def _resized(self, images: Tensor) -> Tensor:
        sides: list[int] = []
        for axis, place in zip((2, 3), self.place, strict=True):
            side = images.shape[axis]
            if self.size > 1:
                seen = max(1, round(side / self.size))
                images = images.narrow(axis, round(place * (side - seen)), seen)
                sides.append(side)
            else:
                sides.append(max(round(self.size * side), min(side, SMALLEST_SIDE)))
        return F.interpolate(images, sides, mode="bilinear", antialias=True)


def view_of_step(step: int) -> View:
    """Draws the augmentation of a training step, which is equal in all trainings and workers.

    Mirrored, upside down and transposed have probability 1/2 each. Channels come in any order, and
    brightness is 0.6 to 1. With probability 3/4, size is 0.5 to 2, uniform in its logarithm.
    """
    generator = torch.Generator().manual_seed(step)
    first, second, third = torch.randperm(3, generator=generator).tolist()
    draws = torch.rand(8, dtype=torch.float64, generator=generator).tolist()
    darkest, brightest = _BRIGHTNESS
    smallest, largest = _SIZES
    return View(
        mirrored=draws[0] < 0.5,
        upside_down=draws[1] < 0.5,
        transposed=draws[2] < 0.5,
        channels=(first, second, third),
        brightness=darkest + draws[3] * (brightest - darkest),
        size=smallest * (largest / smallest) ** draws[5] if draws[4] < _RESIZED else 1.0,
        place=(draws[6], draws[7]),
    )
