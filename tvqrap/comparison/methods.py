"""What can be compared: plain enlargements, our models, other people's upscalers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvqrap.architecture import SCALE
from tvqrap.evaluation.baselines import Baseline, enlarge
from tvqrap.evaluation.metrics.registry import one_line
from tvqrap.evaluation.summary import padding
from tvqrap.pretrained.folder import read_config
from tvqrap.runtime.hardware import device_name
from tvqrap.upscaling.tiles import LARGEST_TILE
from tvqrap.upscaling.upscaler import Upscaler


@dataclass(frozen=True)
class Method:
    """Something that makes an image four times as large."""

    make: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
    """uint8 (H, W, 3) to uint8 (4H, 4W, 3); may raise anything."""
    about: Mapping[str, Any]
    """What it is, by its fingerprint, where it runs, and how it pads."""
    tile: int | None = None
    """Side in LR pixels of the tiles that large images are upscaled in; None where none are."""
    overlap: int = 0
    """Of neighbouring tiles, in LR pixels, at least."""
    multiple: int = 1
    """LR sides are padded to multiples of this before the image's size is judged."""

    def tiles(self, height: int, width: int) -> bool:
        """Whether an LR image of that size is larger than a square tile, and so is cut in tiles."""
        high, wide = (side + -side % self.multiple for side in (height, width))
        return self.tile is not None and high * wide > self.tile**2

    def protocol(self, tiled: int) -> dict[str, Any]:
        """What a result says of it, after `tiled` images were upscaled in tiles."""
        tiling = {"tile": self.tile, "overlap": self.overlap, "images": tiled} if tiled else None
        return {**self.about, "tiling": tiling}

    def made(self, lr: NDArray[np.uint8]) -> NDArray[np.uint8] | str:
        """The enlarged image, or why there is none."""
        try:
            image = self.make(lr)
        except Exception as error:  # other people's networks raise anything
            return str(error) if isinstance(error, ValueError) else one_line(error)
        expected = (SCALE * lr.shape[0], SCALE * lr.shape[1], 3)
        return image if image.shape == expected else f"made {image.shape}, expected {expected}"


def plain(kind: Baseline) -> Method:
    """Enlargement without a network."""
    return Method(lambda lr: enlarge(lr, kind), {"kind": f"Pillow's {kind}"})


def model_folder(folder: Path, device: str = "cpu", tile: int = LARGEST_TILE) -> Method:
    """An upscaler's model folder. Raises UserError where it does not hold one.

    The tile is fixed, not chosen by the memory that is free: it is part of the answer.
    """
    upscaler = Upscaler.from_pretrained(folder, device, tile=tile)
    return Method(
        upscaler,
        {
            "kind": "tvqrap",
            "fingerprint": read_config(folder).fingerprint,
            "device": device_name(device),
            "padding": padding(upscaler.pad_multiple),
        },
        tile=max(upscaler.tile, upscaler.pad_multiple),
        overlap=upscaler.overlap,
        multiple=upscaler.pad_multiple,
    )
