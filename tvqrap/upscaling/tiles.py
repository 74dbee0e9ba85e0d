"""Places of tiles along a side of a large image, and their blending weights.

Sizes are LR pixels unless the text says otherwise. Uses no torch.
"""

import math
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tvqrap.architecture import SCALE, Architecture

LARGEST_TILE = 256
"""Side of a tile where memory allows: larger ones make large images no faster on a CPU."""

LARGEST_WHOLE = 512**2
"""LR pixels of an image that is upscaled whole where memory allows: tiles, which overlap and share
statistics, take up to two thirds more time for images this small."""
_LEAST_TILE = 64
_MAPS = 6
"""Feature maps of the widest layer that are held at a time, at the upscaled size (measured: 5)."""


@dataclass(frozen=True)
class Tiles:
    """The tiles along one side."""

    size: int
    """Length of each tile along this side, a multiple of what the network needs."""
    starts: tuple[int, ...]
    """Start of each tile, a multiple of the same, so that attention has the windows that it has
    in the whole image."""

    def weights(self) -> list[NDArray[np.float32]]:
        """For each tile, its weights (4 size) along the upscaled side; at each place they add to 1.

        A tile falls smoothly to 0 towards its borders with the next.
        """
        fades = []
        for index, start in enumerate(self.starts):
            fade = np.ones(SCALE * self.size)
            if index:
                ramp = _ramp(SCALE * (self.starts[index - 1] + self.size - start))
                fade[: len(ramp)] *= ramp
            if index + 1 < len(self.starts):
                ramp = _ramp(SCALE * (start + self.size - self.starts[index + 1]))
                fade[len(fade) - len(ramp) :] *= ramp[::-1]
            fades.append(fade)
        total = np.zeros(SCALE * (self.starts[-1] + self.size))
        for start, fade in zip(self.starts, fades, strict=True):
            total[SCALE * start :][: len(fade)] += fade
        return [
            (fade / total[SCALE * start :][: len(fade)]).astype(np.float32)
            for start, fade in zip(self.starts, fades, strict=True)
        ]


def tiles_along(side: int, tile: int, overlap: int, multiple: int) -> Tiles:
    """The fewest tiles that cover a side, evenly spread, and no larger than needed.

    `side` and `tile` are multiples of `multiple`; neighbours overlap by `overlap` or more, which
    is at most half of the tile.
    """
    if side <= tile:
        return Tiles(side, (0,))
    # In units of the multiple, so that all starts are multiples of it.
    units, largest, shared = side // multiple, tile // multiple, math.ceil(overlap / multiple)
    count = math.ceil((units - shared) / (largest - shared))
    size = math.ceil((units + (count - 1) * shared) / count)
    starts = (index * (units - size) // (count - 1) * multiple for index in range(count))
    return Tiles(size * multiple, tuple(starts))


def bytes_per_pixel(architecture: Architecture) -> int:
    """Peak memory of activations per LR pixel, which the decoder's last level takes."""
    return _MAPS * architecture.channels(128) * SCALE**2 * 4


@dataclass(frozen=True)
class TileLimits:
    """How large a part of an image the network takes at a time."""

    tile: int
    """Side of square tiles."""
    overlap: int
    """Least overlap of neighbours."""
    whole: int
    """Pixels of an image that needs no tiles."""

    def smaller(self, multiple: int) -> Self | None:
        """Tiles for an image that was upscaled whole, otherwise half the tile; None for the
        smallest."""
        if self.whole > self.tile**2:
            return replace(self, whole=self.tile**2)
        half = max(2 * multiple, _LEAST_TILE, self.tile // 2 // multiple * multiple)
        if half >= self.tile:
            return None
        return replace(self, tile=half, overlap=min(self.overlap, half // 2), whole=half**2)


def check_tile(tile: int, multiple: int) -> None:
    """Raises ValueError for a tile that a network cannot take, or that cannot overlap."""
    if tile < 2 * multiple or tile % multiple:
        raise ValueError(f"tile is {tile}, expected a multiple of {multiple} from {2 * multiple}")


def check_limits(limits: TileLimits, multiple: int) -> None:
    """Raises ValueError for a tile that a network cannot take, or an overlap that it cannot."""
    check_tile(limits.tile, multiple)
    if not 0 <= limits.overlap <= limits.tile // 2:
        raise ValueError(
            f"overlap is {limits.overlap}, expected 0 to half of the tile ({limits.tile // 2})"
        )


def limits_that_fit(
    free: float | None, bytes_per_pixel: float, multiple: int, overlap: int
) -> TileLimits:
    """Limits for `free` bytes of memory (None: not known), of which a part takes at most half.

    Tiles have the side `LARGEST_TILE` where memory allows, so that most machines cut the same
    tiles; otherwise less, but at least two `multiple`s, which tiles need to overlap. Nothing larger
    is upscaled whole where the memory is not known. `overlap` is less where the tile is small.
    """
    pixels = LARGEST_TILE**2 if free is None else int(free / 2 / bytes_per_pixel)
    side = min(LARGEST_TILE, math.isqrt(pixels))
    tile = max(2 * multiple, side // multiple * multiple)
    return TileLimits(tile, min(overlap, tile // 2), max(tile**2, min(LARGEST_WHOLE, pixels)))


def _ramp(length: int) -> NDArray[np.float64]:
    """A ramp from 0 to 1, smooth at both ends; it and its mirror image add up to 1."""
    places: NDArray[np.float64] = (np.arange(length) + 0.5) / max(1, length)
    return np.sin(places * (math.pi / 2)) ** 2
