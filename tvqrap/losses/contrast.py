"""A loss on local contrast by direction."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

_WINDOW = 5

_LEVEL = 2 / 255


def contrast_loss(image: Tensor, target: Tensor) -> Tensor:
    """Distance of an image's local contrast from its target's, by direction: a scalar.

    Images are (N, C, H, W) in [-1, 1], sides 6 or more. Contrast along a direction is the root mean
    square of pixel differences over 5x5 blocks of 2x2 pixels, at least one level of 8-bit pixels.

    At each position the directions are the axes of the target's structure tensor: across and along
    its edges. The loss is the logarithm of the ratio of both contrasts. Too much contrast counts in
    both directions: noise on even surfaces, dots along edges. Too little counts across edges,
    weighted by the square of the target's coherence: blur. Missing texture does not count, since a
    network that cannot predict it would draw noise. A perceptual distance hardly sees these faults.
    """
    found, wanted = _structure_tensor(image), _structure_tensor(target)
    angle = torch.atan2(2 * wanted.mixed, wanted.right - wanted.down) / 2
    across, along = (angle.cos(), angle.sin()), (-angle.sin(), angle.cos())
    lack = _log_contrast(wanted, *across) - _log_contrast(found, *across)
    dotted = _log_contrast(found, *along) - _log_contrast(wanted, *along)
    return (lack.neg().relu() + dotted.relu() + _coherence(wanted).square() * lack.relu()).mean()


class _StructureTensor(NamedTuple):
    """Mean products of the differences within 2x2 pixels, each (N, 1, h, w)."""

    right: Tensor
    down: Tensor
    mixed: Tensor
    diagonal: Tensor
    """Mean square of the chessboard pattern, which has no direction."""


def _structure_tensor(image: Tensor) -> _StructureTensor:
    a, b = image[..., :-1, :-1], image[..., :-1, 1:]
    c, d = image[..., 1:, :-1], image[..., 1:, 1:]
    right, down, diagonal = (b + d - a - c) / 2, (c + d - a - b) / 2, (a + d - b - c) / 2

    def pooled(products: Tensor) -> Tensor:
        return F.avg_pool2d(products.mean(1, keepdim=True), _WINDOW, stride=1)

    return _StructureTensor(
        pooled(right.square()), pooled(down.square()), pooled(right * down), pooled(diagonal**2)
    )


def _log_contrast(tensor: _StructureTensor, x: Tensor, y: Tensor) -> Tensor:
    """Logarithm of the contrast along the unit vectors (x, y)."""
    squares = x * x * tensor.right + 2 * x * y * tensor.mixed + y * y * tensor.down
    return (squares.relu() + tensor.diagonal + _LEVEL**2).log() / 2


def _coherence(tensor: _StructureTensor) -> Tensor:
    """Coherence: 0 where all directions are alike, 1 at a straight edge."""
    difference, total = tensor.right - tensor.down, tensor.right + tensor.down
    return (difference.square() + 4 * tensor.mixed.square()).sqrt() / (total + _LEVEL**2)
