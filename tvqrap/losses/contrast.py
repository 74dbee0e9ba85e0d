"""A loss on local contrast by direction."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

_WINDOW = 5

_LEVEL = 2 / 255


def contrast_loss(image: Tensor, target: Tensor) -> Tensor:
    """How far an image's contrast is from its target's, direction by direction: a scalar.

    Contrast along a direction is the root mean square of differences (N, C, H, W, in [-1, 1]) over
    5x5 places of 2x2 pixels (sides 6 or more), never under one level of 8-bit pixels. At each place
    it is looked at across and along what the target shows there, the axes of the target's structure
    tensor. What counts is the logarithm of its ratio to the target's: above 0 in both directions,
    which is noise on even surfaces and dots along edges; below 0 across alone, by the square of the
    target's coherence, which is blur of edges. What a texture lacks counts nothing: a network that
    cannot know it would fill it with noise. A perceptual distance hardly minds any of these.
    """
    ours, theirs = _structure_tensor(image), _structure_tensor(target)
    angle = torch.atan2(2 * theirs.mixed, theirs.right - theirs.down) / 2
    across, along = (angle.cos(), angle.sin()), (-angle.sin(), angle.cos())
    lack = _log_contrast(theirs, *across) - _log_contrast(ours, *across)
    dotted = _log_contrast(ours, *along) - _log_contrast(theirs, *along)
    return (lack.neg().relu() + dotted.relu() + _coherence(theirs).square() * lack.relu()).mean()


class _StructureTensor(NamedTuple):
    """Mean products of the differences in 2x2 pixels, each (N, 1, h, w)."""

    right: Tensor
    down: Tensor
    mixed: Tensor
    diagonal: Tensor
    """Of what alternates like a chessboard, which has no direction."""


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
    """Along the unit vectors (x, y)."""
    squares = x * x * tensor.right + 2 * x * y * tensor.mixed + y * y * tensor.down
    return (squares.relu() + tensor.diagonal + _LEVEL**2).log() / 2


def _coherence(tensor: _StructureTensor) -> Tensor:
    """From 0, where no direction is another than the others, to 1 at a straight edge."""
    difference, total = tensor.right - tensor.down, tensor.right + tensor.down
    return (difference.square() + 4 * tensor.mixed.square()).sqrt() / (total + _LEVEL**2)
