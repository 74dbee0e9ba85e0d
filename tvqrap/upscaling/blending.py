"""Cutting tiles out of an image, and blending the upscaled tiles into bands of rows."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tvqrap.architecture import SCALE
from tvqrap.images.padding import mirrored_positions
from tvqrap.photo_io.photo import Pixels
from tvqrap.upscaling.tile_norms import Box, patch_places
from tvqrap.upscaling.tiles import Tiles

_PATCH = 128
"""Side, in LR pixels, of the patches that give the statistics of an image in tiles."""
_LEAST_PATCHES = 4
"""Least number of such patches."""


class MirroredImage:
    """An LR image that is extended at the bottom and right as `pad_to_multiple` extends it.

    Only the parts that are asked for are made.
    """

    def __init__(self, lr: Tensor, height: int, width: int) -> None:
        """Takes (3, H, W), float in [-1, 1], uint8 or uint16, and the extended height and width."""
        self.height, self.width = height, width
        self._lr = lr
        self._rows = mirrored_positions(lr.shape[1], height)
        self._columns = mirrored_positions(lr.shape[2], width)

    def cut(self, box: Box) -> Tensor:
        """A part, float (3, height, width) in [-1, 1]."""
        part = self._lr[:, self._rows[box.top : box.top + box.height]]
        return to_float(part[:, :, self._columns[box.left : box.left + box.width]])


def spread_patches(images: Sequence[MirroredImage], tile: int, multiple: int) -> Tensor:
    """Patches (N, 3, h, w), evenly spread over images of one size, in the memory of a tile.

    Of more images than patches fit, those are taken that are evenly spread. `tile` is the side of
    a tile; sides of patches are multiples of `multiple`.
    """
    side = max(multiple, min(_PATCH, tile) // multiple * multiple)
    most = max(_LEAST_PATCHES, (tile // side) ** 2)
    count = min(len(images), most)
    taken = [images[(2 * index + 1) * len(images) // (2 * count)] for index in range(count)]
    places = patch_places(images[0].height, images[0].width, side, most // count, multiple)
    return torch.stack([image.cut(place) for image in taken for place in places])


class BandBlender:
    """Adds upscaled tiles to a band of rows; where tiles overlap, they fade into each other."""

    def __init__(self, rows: Tiles, columns: Tiles, height: int, width: int) -> None:
        """Takes the tiles along both sides, and the LR image's height and width."""
        self._rows, self._columns = rows, columns
        self._height, self._width = height, width
        self._row_weights = [torch.from_numpy(weights)[:, None] for weights in rows.weights()]
        self._column_weights = [torch.from_numpy(weights) for weights in columns.weights()]
        self._band = torch.zeros(3, SCALE * rows.size, SCALE * width)

    def add(self, row: int, column: int, tile: Tensor) -> None:
        """Adds the tile (3, 4h, 4w) of these numbers along the sides."""
        left = self._columns.starts[column]
        tile = tile[..., : SCALE * (self._width - left)]
        across = self._column_weights[column][: tile.shape[2]]
        place = slice(SCALE * left, SCALE * left + tile.shape[2])
        self._band[..., place] += tile * self._row_weights[row] * across

    def finished(self, row: int) -> Tensor:
        """The rows (3, rows, 4W) that no later tile adds to, after the last tile of a row of tiles.

        They are overwritten by `start_next`.
        """
        starts = self._rows.starts
        last = row + 1 == len(starts)
        end = self._height if last else starts[row + 1]
        return self._band[:, : SCALE * (end - starts[row])]

    def start_next(self, row: int) -> None:
        """Moves the rows that overlap the next row of tiles to the top of the band."""
        rest = self._band[:, self.finished(row).shape[1] :].clone()
        self._band[:, : rest.shape[1]] = rest
        self._band[:, rest.shape[1] :] = 0


def to_float(lr: Tensor) -> Tensor:
    """uint8 or uint16 as float32 in [-1, 1]; floating values as they are."""
    if lr.is_floating_point():
        return lr
    return lr.float() / (127.5 if lr.dtype == torch.uint8 else 32767.5) - 1


def channels_first(image: Pixels) -> Tensor:
    """(H, W, 3) as a tensor (3, H, W)."""
    return torch.from_numpy(np.require(image, requirements=("C", "W"))).permute(2, 0, 1)
