"""The codebook: texture vectors to codes and back."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_CHUNK = 2**23
"""Distances in memory at a time: 64 MB in float64."""
_TIE = 1e-13
"""Difference of two squared distances below which they count as equal, relative to the largest
values that they are computed from. It is some hundred times the rounding error of float64."""


class Quantized(NamedTuple):
    """A quantized texture map, and the losses of quantization."""

    values: Tensor
    """The nearest entries, (N, C, h, w); their gradient passes to the map unchanged."""
    codes: Tensor
    """Their indices, int64 (N, h, w)."""
    codebook_loss: Tensor
    """Mean (z - e)^2 with a gradient to the entries alone, unweighted."""
    commitment_loss: Tensor
    """The same value with a gradient to the map alone, unweighted."""


class Codebook(nn.Module):
    """`entries` vectors of `channels` each, initially uniform in +-1 / entries (VQ-VAE)."""

    def __init__(self, entries: int, channels: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(entries, channels)
        nn.init.uniform_(self.embedding.weight, -1 / entries, 1 / entries)

    def nearest(self, z: Tensor) -> Tensor:
        """Returns the codes of the entries nearest to `z` (N, C, h, w) in L2: int64 (N, h, w).

        The search computes in float64, so that the codes are the same for any batch, device,
        surrounding autocast and precision of float32 products. Of equal distances the lowest code
        is taken. It does not wait for a CUDA device.
        """
        n, channels, height, width = z.shape
        flat = z.detach().permute(0, 2, 3, 1).reshape(-1, channels)
        return self._nearest(flat).view(n, height, width)

    @torch.no_grad()
    def _nearest(self, vectors: Tensor) -> Tensor:
        """Codes (M) of vectors (M, C)."""
        device = vectors.device
        # MPS has no float64, nor have some XPUs.
        home = device if device.type in ("cpu", "cuda", "meta") else torch.device("cpu")
        entries = self.embedding.weight.to(home).double()
        # A mean that is large against the differences would take their digits.
        mean = entries.mean(0)
        entries = entries - mean
        parts = vectors.to(home).split(max(1, _CHUNK // len(entries)))
        codes = [_nearest_rows(part.double() - mean, entries) for part in parts]
        return torch.cat(codes).to(device)

    def lookup(self, codes: Tensor) -> Tensor:
        """Returns the entries (N, C, h, w) of integer codes (N, h, w)."""
        return self.embedding(codes.long()).permute(0, 3, 1, 2)

    def quantize(self, z: Tensor) -> Quantized:
        """Replaces each vector of `z` (N, C, h, w) by its nearest entry."""
        codes = self.nearest(z)
        entries = self.lookup(codes)
        return Quantized(
            values=z + (entries - z).detach(),
            codes=codes,
            codebook_loss=F.mse_loss(entries, z.detach()),
            commitment_loss=F.mse_loss(z, entries.detach()),
        )

    @torch.no_grad()
    def kmeans_(self, vectors: Tensor, iterations: int, generator: torch.Generator) -> None:
        """Sets the entries to the k-means centres of `vectors` (M, C), M >= entries.

        `generator` (on the CPU) draws the initial centres from the vectors, without replacement. A
        centre without vectors moves to the vector with the largest error.

        Raises:
            ValueError: There are fewer vectors than entries.
        """
        entries = self.embedding.weight
        if len(vectors) < len(entries):
            raise ValueError(f"k-means needs {len(entries)} vectors or more; found {len(vectors)}")
        start = torch.randperm(len(vectors), generator=generator)[: len(entries)]
        vectors = vectors.to(entries.dtype)
        entries.copy_(vectors[start.to(vectors.device)])
        for _ in range(iterations):
            codes = self._nearest(vectors)
            counts = count_codes(codes, len(entries))
            sums = vectors.new_zeros(entries.shape, dtype=torch.float64)
            sums.index_add_(0, codes, vectors.double())
            empty = counts == 0
            error = (vectors - entries[codes]).square().sum(1)
            worst = error.argsort(descending=True, stable=True)[: int(empty.sum())]
            entries.copy_(sums / counts.clamp(min=1)[:, None])
            entries[empty] = vectors[worst].to(entries.dtype)

    @torch.no_grad()
    def revive_(self, dead: Tensor, candidates: Tensor, generator: torch.Generator) -> None:
        """Replaces the `dead` entries (bool, one per entry) by vectors drawn from `candidates`.

        `generator` (on the CPU) draws from the candidates (M, C), M >= 1, without replacement as
        long as they suffice. It does not wait for the device.
        """
        entries, count = self.embedding.weight, len(candidates)
        draws = [torch.randperm(count, generator=generator) for _ in range(0, len(dead), count)]
        drawn = torch.cat(draws).to(candidates.device, non_blocking=True)
        turn = (dead.cumsum(0) - 1).clamp_min(0)  # of each dead entry among them
        chosen = candidates[drawn[turn]].to(entries)
        entries.copy_(torch.where(dead[:, None], chosen, entries))


def count_codes(codes: Tensor, entries: int) -> Tensor:
    """Histogram of codes: int64 (entries). Unlike `bincount`, it does not wait for the device."""
    flat = codes.flatten()
    return flat.new_zeros(entries).scatter_add_(0, flat, torch.ones_like(flat))


def _nearest_rows(vectors: Tensor, entries: Tensor) -> Tensor:
    """Codes (M) of the entries (K, C) nearest to vectors (M, C), both float64.

    Autocast leaves float64 as it is.
    """
    squares = entries.square().sum(1)
    # |v - e|^2 without |v|^2, which no entry changes.
    distances = torch.addmm(squares, vectors, entries.t(), alpha=-2)
    largest = squares.max().sqrt()
    slack = _TIE * largest * (2 * vectors.norm(dim=1) + largest)
    nearest = distances <= (distances.amin(1) + slack)[:, None]
    return nearest.byte().argmax(1)  # the first of several
