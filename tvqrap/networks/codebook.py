"""The codebook: texture vectors to codes and back."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tvqrap.runtime.device import no_autocast

_CHUNK = 2**24
"""Distances, or differences, in memory at a time: 64 MB in float32."""


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

        The codes are those of exact arithmetic, for any batch, device and surrounding autocast.
        Where float32 cannot tell which entry is nearer, float64 decides. Of equal distances the
        lowest code is taken.
        """
        n, channels, height, width = z.shape
        flat = z.detach().permute(0, 2, 3, 1).reshape(-1, channels)
        return self._nearest(flat).view(n, height, width)

    @torch.no_grad()
    def _nearest(self, vectors: Tensor) -> Tensor:
        """Codes (M) of vectors (M, C)."""
        wide = torch.promote_types(vectors.dtype, torch.float32)
        entries = self.embedding.weight.to(wide)
        with no_autocast(vectors.device):
            parts = vectors.to(wide).split(max(1, _CHUNK // len(entries)))
            return torch.cat([_nearest_rows(part, entries) for part in parts])

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
            counts = codes.bincount(minlength=len(entries))
            sums = vectors.new_zeros(entries.shape, dtype=torch.float64)
            sums.index_add_(0, codes, vectors.double())
            empty = counts == 0
            error = (vectors - entries[codes]).square().sum(1)
            worst = error.argsort(descending=True, stable=True)[: int(empty.sum())]
            entries.copy_(sums / counts.clamp(min=1)[:, None])
            entries[empty] = vectors[worst].to(entries.dtype)

    @torch.no_grad()
    def revive_(self, dead: Tensor, candidates: Tensor, generator: torch.Generator) -> int:
        """Replaces the `dead` entries (bool, one per entry) by vectors drawn from `candidates`.

        `generator` (on the CPU) draws from the candidates (M, C), without replacement as long as
        they suffice. Returns the number of replaced entries.

        Raises:
            ValueError: An entry is dead and there is no candidate.
        """
        count = int(dead.sum())
        if count and not len(candidates):
            raise ValueError(f"{count} codebook entries are dead; found no vector to revive them")
        drawn = [
            torch.randperm(len(candidates), generator=generator)
            for _ in range(0, count, max(1, len(candidates)))
        ]
        if drawn:
            chosen = candidates[torch.cat(drawn)[:count].to(candidates.device)]
            self.embedding.weight[dead] = chosen.to(self.embedding.weight)
        return count


def _nearest_rows(vectors: Tensor, entries: Tensor) -> Tensor:
    """Codes (M) of the entries (K, C) nearest to vectors (M, C)."""
    squares = entries.square().sum(1)
    # |v - e|^2 without |v|^2, which no entry changes.
    distances = torch.addmm(squares, vectors, entries.t(), alpha=-2)
    best, codes = distances.min(1)
    # Ten times the rounding error of such a sum; TF32 and bfloat16 products round more.
    rounding = 1e-5 if torch.get_float32_matmul_precision() == "highest" else 2e-2
    largest = squares.max().sqrt()
    slack = rounding * largest * (2 * vectors.norm(dim=1) + largest)
    close = distances <= (best + slack)[:, None]
    close[close.sum(1) == 1] = False
    rows, candidates = close.nonzero(as_tuple=True)
    if not len(rows):
        return codes
    pairs = zip(
        *(each.split(max(1, _CHUNK // entries.shape[1])) for each in (rows, candidates)),
        strict=True,
    )
    exact = torch.cat(
        [
            (vectors[some].double() - entries[others].double()).square_().sum(1)
            for some, others in pairs
        ]
    )
    least = exact.new_full((len(vectors),), torch.inf).scatter_reduce_(0, rows, exact, "amin")
    nearest = exact == least[rows]
    codes[rows] = len(entries)
    return codes.scatter_reduce_(0, rows[nearest], candidates[nearest], "amin")
