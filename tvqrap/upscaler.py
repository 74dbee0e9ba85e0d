"""Upscaling images of any size with a trained model."""

import math
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tvqrap.architecture import SCALE
from tvqrap.images import to_rgb, to_tensor, to_uint8
from tvqrap.network import UpscalerNetwork, crop_upscaled, pad_to_multiple
from tvqrap.upscaler_folder import load_upscaler

PAD_MULTIPLE = 64
"""Multiple that LR sides are padded to: the protocol of the published scores."""

Picture = TypeVar("Picture", Image.Image, NDArray[np.uint8], Tensor)


class Upscaler:
    """Enlarges images four times; the same input gives the same output on the same device.

    An image is padded at the bottom and right to multiples of `pad_multiple`, upscaled and cropped
    back. One with a side over `tile` LR pixels is upscaled in overlapping tiles that fade into each
    other; as the network normalises over all it sees, that is close to and not equal to upscaling
    it whole.
    """

    def __init__(
        self,
        network: UpscalerNetwork,
        *,
        device: str | torch.device = "cpu",
        pad_multiple: int | None = None,
        tile: int = 512,
        overlap: int = 32,
    ) -> None:
        """Takes a network; `tile` and its `overlap` with the next are in LR pixels.

        `pad_multiple` is 64 if not given, or the least multiple of 64 that the network can take.
        Raises ValueError where it is no multiple of what the network needs, or the tiles could not
        cover an image.
        """
        needed = network.architecture.lr_multiple
        if pad_multiple is None:
            pad_multiple = math.lcm(PAD_MULTIPLE, needed)
        if pad_multiple < 1 or pad_multiple % needed:
            raise ValueError(f"pad_multiple is {pad_multiple}, expected a multiple of {needed}")
        if not 0 <= overlap <= tile // 2:
            raise ValueError(f"overlap is {overlap}, expected 0 to half of the tile ({tile // 2})")
        self.network = network.eval().to(device).to(memory_format=torch.channels_last)
        self.device = torch.device(device)
        self.pad_multiple = pad_multiple
        self.tile = tile
        self.overlap = overlap

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        device: str | torch.device = "cpu",
        *,
        pad_multiple: int | None = None,
        tile: int = 512,
        overlap: int = 32,
    ) -> Self:
        """Loads a model folder (`models/rap`, say); raises UserError where it does not hold one."""
        return cls(
            load_upscaler(Path(folder)),
            device=device,
            pad_multiple=pad_multiple,
            tile=tile,
            overlap=overlap,
        )

    def __call__(self, image: Picture) -> Picture:
        """Upscales a PIL image, uint8 (H, W, 3), or float (3, H, W) or (N, 3, H, W) in [-1, 1].

        What comes back is of the same kind, with four times the height and width: a PIL image is
        RGB, a tensor is float32, clamped, on the tensor's device. Raises ValueError for other
        shapes and types, and where the network gives values that are not finite.
        """
        if isinstance(image, Image.Image):
            return Image.fromarray(to_uint8(self._upscale(to_tensor(to_rgb(image))[None])[0]))
        if isinstance(image, np.ndarray):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
                raise ValueError(
                    f"array is {image.dtype} {image.shape}, expected uint8 (height, width, 3)"
                )
            return to_uint8(self._upscale(to_tensor(image)[None])[0])
        shape = tuple(image.shape)
        if not image.is_floating_point() or image.ndim not in (3, 4) or shape[-3] != 3:
            raise ValueError(
                f"tensor is {image.dtype} {shape}, expected floating (3, height, width) "
                "or (count, 3, height, width)"
            )
        if not image.numel():
            raise ValueError(f"tensor of shape {shape} holds no pixels")
        batch = image.float() if image.ndim == 4 else image.float()[None]
        upscaled = self._upscale(batch).clamp(-1, 1).to(image.device)
        return upscaled if image.ndim == 4 else upscaled[0]

    @torch.inference_mode()
    def _upscale(self, lr: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 3, 4H, 4W), not clamped, whole or in tiles."""
        height, width = lr.shape[2:]
        rows = _starts(height, self.tile, self.overlap)
        columns = _starts(width, self.tile, self.overlap)
        if len(rows) == len(columns) == 1:
            return self._upscale_whole(lr)
        tile_height, tile_width = min(height, self.tile), min(width, self.tile)
        fade = _fade(tile_height, self.overlap)[:, None] * _fade(tile_width, self.overlap)
        total = lr.new_zeros((*lr.shape[:2], SCALE * height, SCALE * width), device="cpu")
        weight = torch.zeros(total.shape[2:])
        for top in rows:
            for left in columns:
                tile = self._upscale_whole(
                    lr[..., top : top + tile_height, left : left + tile_width]
                )
                place = (
                    ...,
                    slice(SCALE * top, SCALE * (top + tile_height)),
                    slice(SCALE * left, SCALE * (left + tile_width)),
                )
                total[place] += tile * fade
                weight[place] += fade
        return total / weight

    def _upscale_whole(self, lr: Tensor) -> Tensor:
        padded = pad_to_multiple(lr.to(self.device), self.pad_multiple)
        sr = self.network(padded.contiguous(memory_format=torch.channels_last))
        if not sr.isfinite().all():
            raise ValueError("the model gives values that are not finite")
        return crop_upscaled(sr, *lr.shape[2:]).cpu()


def _starts(side: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin along a side: evenly spread, overlapping by `overlap` or more."""
    if side <= tile:
        return [0]
    count = math.ceil((side - overlap) / (tile - overlap))
    return [round(index * (side - tile) / (count - 1)) for index in range(count)]


def _fade(tile: int, overlap: int) -> Tensor:
    """Weights along a tile's 4x side: 1 inside, falling smoothly over the overlap, never 0."""
    side, ramp = SCALE * tile, max(1, SCALE * overlap)
    distance = torch.arange(side) + 0.5
    nearest = torch.minimum(distance, side - distance) / ramp
    return torch.sin(nearest.clamp(max=1) * (math.pi / 2)).square()
