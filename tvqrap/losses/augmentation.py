"""Random views of a pair of images, for a perceptual distance to compare in place of the pair.

A network that is trained with one distance long enough learns what the distance does not see: fine
hatching and dots, which it takes for texture. They are particular to a direction, to a size in
pixels, to the colours' order. Compared under random changes of these, alike for both images, the
distance's blind spots are not in the same place twice (Kettunen, Härkönen and Lehtinen, "E-LPIPS:
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
    """One way to look at images; the default is as they are."""

    mirrored: bool = False
    upside_down: bool = False
    transposed: bool = False
    channels: tuple[int, int, int] = (0, 1, 2)
    """Which channel is taken for the first, second and third."""
    brightness: float = 1.0
    """Factor of the pixels, counted from black."""
    size: float = 1.0
    """Of the images in parts of their own: smaller, with no side shorter than 21 pixels, or larger,
    as much of it as has the size of the whole."""
    place: tuple[float, float] = (0.0, 0.0)
    """Of the part that is seen of larger images: 0 is at the top or left, 1 at the other end."""

    def of(self, images: Tensor) -> Tensor:
        """The view (N, 3, h, w) of images (N, 3, H, W) in [-1, 1]."""
        axes = [-1] * self.mirrored + [-2] * self.upside_down
        images = images.flip(axes) if axes else images
        images = images.mT if self.transposed else images
        if self.channels != (0, 1, 2):
            images = images[:, list(self.channels)]
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
    """The view of a training's step: random, and the same in every training and all its workers.

    Mirrored, upside down and transposed each with probability 1/2, channels in any order,
    brightness 0.6 to 1, three times in four half to twice the size (even in its logarithm).
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
