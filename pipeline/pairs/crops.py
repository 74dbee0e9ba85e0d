"""The position of crops in a photograph, and cutting them.

full    a random square of the crop's size; a photograph that is too small is reflected
square  a random square of the shorter side, area-reduced
zoom    a random square with a side drawn log-uniformly between the crop's size and the shorter
        side, area-reduced
centre  the shorter side reduced to the crop's size by antialiased bicubic; the first crop is the
        centre, further ones are spread along the longer side
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from itertools import permutations

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.config import CropMode
from pipeline.rng import random_stream


@dataclass(frozen=True)
class Crop:
    """A square of a photograph, which becomes an HR image."""

    left: int
    top: int
    side: int
    """In pixels of the photograph; for `centre` in pixels of the reduced photograph."""
    flip: bool
    """Whether it is mirrored, left for right, after cutting."""
    channels: tuple[int, int, int] = (0, 1, 2)
    """The photograph's channels that become red, green and blue, after cutting."""


def capacity(mode: CropMode, width: int, height: int, size: int) -> int | None:
    """Number of different crops that a photograph gives; None for no limit."""
    if mode == "full":
        return None
    if min(width, height) < size:
        return 0
    return _reduced_long_side(width, height, size) - size + 1 if mode == "centre" else None


NO_LIMIT = np.iinfo(np.int64).max


def capacities(
    mode: CropMode, widths: NDArray[np.int32], heights: NDArray[np.int32], size: int
) -> NDArray[np.int64]:
    """`capacity` of many photographs, int64 (N); `NO_LIMIT` for no limit."""
    short = np.minimum(widths, heights).astype(np.int64)
    found = np.full(len(short), NO_LIMIT)
    if mode == "full":
        return found
    if mode == "centre":
        long = np.maximum(widths, heights).astype(np.int64)
        whole, rest = np.divmod(long * size, short)
        # Half to even, as `round` does with the fraction.
        up = (2 * rest > short) | ((2 * rest == short) & (whole % 2 == 1))
        found = whole + up - size + 1
    found[short < size] = 0
    return found


def plan_crop(
    mode: CropMode,
    width: int,
    height: int,
    size: int,
    flips: bool,
    channel_shuffle_prob: float,
    index: int,
    identity: tuple[int | str, ...],
) -> Crop:
    """The crop number `index` of a photograph. The draws follow from `identity` and `index`.

    ValueError where the photograph has no such crop (see `capacity`).
    """
    available = capacity(mode, width, height, size)
    if available is not None and index >= available:
        raise ValueError(f"a {width}x{height} photograph has no crop {index} of {mode} {size}")
    rng = random_stream(*identity, index)
    flip = bool(rng.random() < 0.5) and flips
    channels = _drawn_channels(channel_shuffle_prob, random_stream(*identity, "channels", index))
    if mode == "centre":
        offset = _spread_offset(available or 1, index)
        left, top = (offset, 0) if width >= height else (0, offset)
        return Crop(left, top, size, flip, channels)
    short = min(width, height)
    side = size
    if mode == "square":
        side = short
    elif mode == "zoom":
        side = min(short, round(math.exp(rng.uniform(math.log(size), math.log(short)))))
    left, top = (int(rng.integers(max(length - side, 0) + 1)) for length in (width, height))
    return Crop(left, top, side, flip, channels)


def cut(photo: np.ndarray, mode: CropMode, size: int, crop: Crop) -> np.ndarray:
    """The HR image of a crop: uint8 (size, size, 3) of a uint8 (H, W, 3) photograph."""
    if mode == "centre":
        photo = _reduce(photo, size)
    part = photo[crop.top : crop.top + crop.side, crop.left : crop.left + crop.side]
    if part.shape[:2] != (crop.side, crop.side):
        missing = [(0, crop.side - length) for length in part.shape[:2]]
        part = np.pad(part, [*missing, (0, 0)], mode="reflect")
    if crop.side != size:
        part = cv2.resize(part, (size, size), interpolation=cv2.INTER_AREA)
    if crop.flip:
        part = part[:, ::-1]
    return np.ascontiguousarray(part[..., crop.channels])


def _drawn_channels(channel_shuffle_prob: float, rng: np.random.Generator) -> tuple[int, int, int]:
    """The order of the channels: another one than RGB with the given probability."""
    orders = list(permutations(range(3), 3))
    return orders[int(rng.integers(1, len(orders))) if rng.random() < channel_shuffle_prob else 0]


def _reduce(photo: np.ndarray, size: int) -> np.ndarray:
    height, width = photo.shape[:2]
    long = _reduced_long_side(width, height, size)
    shape = (long, size) if width >= height else (size, long)
    return np.asarray(Image.fromarray(photo).resize(shape, Image.Resampling.BICUBIC))


def _reduced_long_side(width: int, height: int, size: int) -> int:
    return round(Fraction(max(width, height) * size, min(width, height)))


def _spread_offset(positions: int, index: int) -> int:
    """Offset number `index` of 0 .. positions - 1: the centre, the ends, quarters, eighths, ...

    No offset comes twice, and the offset of an index does not depend on the number of crops.
    """
    seen: set[int] = set()
    for level in range(positions.bit_length() + 2):
        parts = 2**level
        steps = (1, 0, 2) if level == 1 else range(1, parts, 2)
        for step in steps if level else ():
            offset = round(Fraction((positions - 1) * step, parts))
            if offset not in seen:
                if len(seen) == index:
                    return offset
                seen.add(offset)
    rest = [offset for offset in range(positions) if offset not in seen]
    return rest[index - len(seen)]
