"""Normalisation that is the same in every tile of an image.

Group normalisation takes its statistics over a whole map, so tiles upscaled on their own differ in
brightness and contrast. Here patches spread over the image go through the network together,
normalised as if they were one image. Their statistics then normalise all tiles.
"""

import copy
from itertools import chain
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tvqrap.networks.blocks import Norm

Network = TypeVar("Network", bound=nn.Module)


class Box(NamedTuple):
    """A part of an image."""

    top: int
    left: int
    height: int
    width: int


class _Together(nn.Module):
    """Normalises a batch (N, C, H, W) as one image, and keeps its statistics."""

    def __init__(self, norm: Norm) -> None:
        super().__init__()
        self.norm = norm
        self.fixed: _Fixed | None = None

    def forward(self, x: Tensor) -> Tensor:
        groups = x.float().unflatten(1, (self.norm.num_groups, -1))
        variance, mean = torch.var_mean(groups, dim=(0, 2, 3, 4), correction=0)
        self.fixed = _Fixed(self.norm, mean, variance)
        return self.fixed(x)


class _Fixed(nn.Module):
    """Normalises with a given mean and variance, one of each per group."""

    def __init__(self, norm: Norm, mean: Tensor, variance: Tensor) -> None:
        super().__init__()
        self.norm = norm
        channels = norm.num_channels // norm.num_groups
        self.mean = mean.repeat_interleave(channels)
        self.variance = variance.repeat_interleave(channels)

    def forward(self, x: Tensor) -> Tensor:
        norm = self.norm
        # With given statistics, batch normalisation is a multiplication and an addition.
        return F.batch_norm(x, self.mean, self.variance, norm.weight, norm.bias, eps=norm.eps)


def shared_norms(network: Network, patches: Tensor) -> Network:
    """A network with the weights of `network` and the normalisation statistics of `patches`.

    The patches (N, 3, H, W) count as one image. `network` itself does not change, since other
    threads may be using it.
    """
    alike = _sharing_weights(network)
    norms = [
        (parent, name, norm)
        for parent in alike.modules()
        for name, norm in parent.named_children()
        if isinstance(norm, Norm)
    ]
    watched = [_Together(norm) for _, _, norm in norms]
    for (parent, name, _), together in zip(norms, watched, strict=True):
        setattr(parent, name, together)
    alike(patches)
    for (parent, name, norm), together in zip(norms, watched, strict=True):
        setattr(parent, name, norm if together.fixed is None else together.fixed)
    return alike


def _sharing_weights(network: Network) -> Network:
    """A copy of all modules that shares its parameters and buffers with `network`."""
    shared = chain(network.parameters(), network.buffers())
    return copy.deepcopy(network, {id(tensor): tensor for tensor in shared})


def patch_places(height: int, width: int, side: int, most: int, multiple: int) -> list[Box]:
    """Up to `most` patches of side `side` (or the image's), evenly spread, without overlap.

    All sizes and places are multiples of `multiple`. Few large patches are better than many small
    ones: near a patch's border, where convolutions see zeros, statistics are wrong.
    """
    high, wide = min(side, height), min(side, width)
    rows, columns = height // high, width // wide
    while rows * columns > most:
        if rows > columns:
            rows -= 1
        else:
            columns -= 1
    return [
        Box(_middle(row, rows, height, high, multiple), left, high, wide)
        for row in range(rows)
        for left in (_middle(column, columns, width, wide, multiple) for column in range(columns))
    ]


def _middle(index: int, count: int, side: int, patch: int, multiple: int) -> int:
    """Start of a patch that is centred in its share of a side."""
    return ((2 * index + 1) * side // (2 * count) - patch // 2) // multiple * multiple
