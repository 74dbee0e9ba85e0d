"""Where the tiles of a large image lie along a side, and how they fade into each other.

Sizes are LR pixels unless they are said to be of the upscaled image. Torch-free.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tvqrap.architecture import SCALE

LARGEST_TILE = 256
"""Side of a tile where memory allows: larger ones are no faster on a CPU."""


@dataclass(frozen=True)
class Tiles:
    """The tiles along one side."""

    size: int
    """Of each tile along this side, a multiple of what the network needs."""
    starts: tuple[int, ...]
    """Where each begins: multiples of the same, so that attention sees the windows that it would
    see in the whole image."""

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
    """As few tiles as cover a side, evenly spread, and no larger than they need to be.

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


def tile_that_fits(free: float | None, bytes_per_pixel: float, multiple: int) -> int:
    """Side of the square tiles for a machine with so much free memory (None: not known).

    That is `LARGEST_TILE` wherever it takes half of the memory or less, so that machines do not
    differ in the tiles they cut, and otherwise as much less as is needed; never less than the
    least that tiles can overlap in, two `multiple`s.
    """
    pixels = math.inf if free is None else free / 2 / bytes_per_pixel
    side = min(LARGEST_TILE, math.isqrt(int(min(pixels, LARGEST_TILE**2))))
    return max(2 * multiple, side // multiple * multiple)


def _ramp(length: int) -> NDArray[np.float64]:
    """From 0 to 1, smooth at both ends; the ramp and its mirror image add to 1."""
    places: NDArray[np.float64] = (np.arange(length) + 0.5) / max(1, length)
    return np.sin(places * (math.pi / 2)) ** 2
