"""Photographs for the command `upscale`, and an upscaler in the place of a network."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tvqrap.architecture import Architecture
from tvqrap.upscaling.upscaler import Upscaler

TINY = Architecture(width=0.125, codebook=16, texture=8, structure=32, swin_blocks=2)


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def image(
    name: str | Path, width: int = 5, height: int = 3, mode: str = "RGB", **options: Any
) -> Path:
    """A photograph in a new file."""
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(width, height, mode).save(path, **options)
    return path


def repeated(
    self: Upscaler, lr: np.ndarray, advance: Any = None, network: Any = None
) -> Iterator[np.ndarray]:
    """In place of `Upscaler.rows`: each pixel 4x4 times, in bands."""
    large = lr.repeat(4, 0).repeat(4, 1)
    for top in range(0, len(large), 10):
        yield large[top : top + 10]


def opened(name: Any) -> Image.Image:
    with Image.open(name) as found:
        found.load()
        return found
