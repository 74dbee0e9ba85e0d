"""The methods that can be compared: baselines, our models, other upscalers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tvqrap.architecture import SCALE
from tvqrap.evaluation.baselines import Baseline, enlarge
from tvqrap.evaluation.summary import padding
from tvqrap.runtime.errors import one_line
from tvqrap.runtime.hardware import device_name
from tvqrap.upscaling.tiles import LARGEST_TILE
from tvqrap.upscaling.upscaler import Upscaler


@dataclass(frozen=True)
class Method:
    """An upscaler by a factor of four."""

    make: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
    """uint8 (H, W, 3) to uint8 (4H, 4W, 3); may raise any exception."""
    about: Mapping[str, Any]
    """Kind, fingerprint, device and padding."""
    tile: int | None = None
    """Side in LR pixels of the tiles of large images; None for a method without tiles."""
    overlap: int = 0
    """Least overlap of neighbouring tiles, in LR pixels."""
    multiple: int = 1
    """LR sides are padded to multiples of this before the image's size is judged."""

    def tiles(self, height: int, width: int) -> bool:
        """Whether an LR image of that size has more pixels than a tile, and so is tiled."""
        high, wide = (side + -side % self.multiple for side in (height, width))
        return self.tile is not None and high * wide > self.tile**2

    def protocol(self, tiled: int) -> dict[str, Any]:
        """Its description in a result, after `tiled` images were upscaled in tiles."""
        tiling = {"tile": self.tile, "overlap": self.overlap, "images": tiled} if tiled else None
        return {**self.about, "tiling": tiling}

    def made(self, lr: NDArray[np.uint8]) -> NDArray[np.uint8] | str:
        """The upscaled image, or the reason why there is none."""
        try:
            image = self.make(lr)
        except Exception as error:  # networks of other projects raise anything
            return str(error) if isinstance(error, ValueError) else one_line(error)
        expected = (SCALE * lr.shape[0], SCALE * lr.shape[1], 3)
        return image if image.shape == expected else f"made {image.shape}, expected {expected}"


def baseline(kind: Baseline) -> Method:
    """Enlargement without a network."""
    return Method(lambda lr: enlarge(lr, kind), {"kind": f"Pillow's {kind}"})


def model_folder(
    folder: Path, device: str | torch.device = "cpu", tile: int = LARGEST_TILE
) -> Method:
    """An upscaler's model folder, or single file of ours. Raises UserError where it holds none.

    The tile is fixed instead of chosen by the free memory, because pixels depend on it.
    """
    upscaler = Upscaler.from_pretrained(folder, device, tile=tile)
    return Method(
        upscaler,
        {
            "kind": "tvqrap",
            "fingerprint": upscaler.fingerprint,
            "device": device_name(device),
            "padding": padding(upscaler.pad_multiple),
        },
        tile=max(upscaler.limits.tile, upscaler.pad_multiple),
        overlap=upscaler.limits.overlap,
        multiple=upscaler.pad_multiple,
    )
