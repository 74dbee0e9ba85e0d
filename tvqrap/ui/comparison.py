"""Pictures that the page compares: a photograph enlarged by bicubic interpolation, and upscaled."""

from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from tvqrap.images.reading.open import MAX_PIXELS, read_image

COMPARED = 200_000_000
"""Pixels of the largest output that is compared (0.6 GB in memory)."""
LARGEST_SIDE = 2048
"""Largest side of a picture that the page gets; larger outputs are shown in parts."""

Side = Literal["before", "after"]
Box = tuple[int, int, int, int]


def write_comparison(folder: Path, source: Path, target: Path, size: tuple[int, int]) -> None:
    """Decodes a photograph and its output of `size` (width, height) into files for `picture`."""
    pixels = max(MAX_PIXELS, size[0] * size[1])
    factor = min(1.0, LARGEST_SIDE / max(size))
    whole = max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
    for side, path, kernel in (
        ("after", target, Image.Resampling.LANCZOS),
        ("before", source, Image.Resampling.BICUBIC),
    ):
        image = read_image(path, pixels)
        np.save(folder / f"{side}.npy", np.asarray(image))
        shown = image if image.size == whole else image.resize(whole, kernel)
        (folder / f"{side}.png").write_bytes(_png(shown))


def picture(folder: Path, side: Side, size: tuple[int, int], box: Box | None) -> bytes:
    """A PNG of the whole picture, reduced to fit `LARGEST_SIDE`, or of a part of it.

    `box` is (left, top, right, bottom) in the output of `size`. Raises ValueError where it is none
    of it, or larger than `LARGEST_SIDE`.
    """
    if box is None:
        return (folder / f"{side}.png").read_bytes()
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    if not (0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]):
        raise ValueError(f"part is {box}, expected one of {size[0]}x{size[1]}")
    if max(width, height) > LARGEST_SIDE:
        raise ValueError(f"part is {width}x{height}, expected sides up to {LARGEST_SIDE}")
    stored = np.load(folder / f"{side}.npy", mmap_mode="r")
    if side == "after":
        return _png(Image.fromarray(np.ascontiguousarray(stored[top:bottom, left:right])))
    across, down = stored.shape[1] / size[0], stored.shape[0] / size[1]
    part = (left * across, top * down, right * across, bottom * down)
    lr = Image.fromarray(np.ascontiguousarray(stored))
    return _png(lr.resize((width, height), Image.Resampling.BICUBIC, part))


def _png(image: Image.Image) -> bytes:
    stream = BytesIO()
    image.save(stream, "PNG", compress_level=1)  # quick: it goes no further than the browser
    return stream.getvalue()
