"""Embeds pictures in a page: cropped, encoded, and limited to a number of bytes."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tvqrap.architecture import SCALE

LARGEST_SIDE = 512
"""Largest side of a picture in the page, in HR pixels; larger images are cropped to the part with
most detail."""
QUALITY = 90
"""Quality of WebP, where the pictures do not fit without loss."""


@dataclass(frozen=True)
class Embedded:
    """The pictures of one image, all of one place and size."""

    uris: Mapping[str, str]
    """By column: data URIs."""
    size: tuple[int, int]
    """Width and height in HR pixels."""
    box: tuple[int, int, int, int] | None
    """Left, top, right, bottom in HR pixels where only a part is shown."""


def embed(
    images: Sequence[Mapping[str, NDArray[np.uint8]]], budget: int
) -> tuple[list[Embedded], bool]:
    """Encodes the first images that fit into `budget` bytes, and says whether with loss.

    Pictures are uint8 (H, W, 3) or, for LR, (H / 4, W / 4, 3). All are lossless WebP, or all lossy.
    """
    cut = [_cut(pictures) for pictures in images]
    for lossless in (True, False):
        embedded = [
            Embedded({name: _uri(p, lossless) for name, p in pictures.items()}, size, box)
            for pictures, size, box in cut
        ]
        sizes = np.cumsum([sum(len(uri) for uri in e.uris.values()) for e in embedded])
        if not len(sizes) or sizes[-1] <= budget:
            return embedded, not lossless
    return embedded[: int(np.searchsorted(sizes, budget, side="right"))], True


def _uri(pixels: NDArray[np.uint8], lossless: bool) -> str:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "WEBP", lossless=lossless, quality=QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()


def _cut(
    pictures: Mapping[str, NDArray[np.uint8]],
) -> tuple[dict[str, NDArray[np.uint8]], tuple[int, int], tuple[int, int, int, int] | None]:
    """The same part of every picture, its size, and its place if it is not the whole.

    The last picture is that of HR or of a model; those that do not show the same place are left
    out.
    """
    last = list(pictures.values())[-1]
    height, width = last.shape[:2]
    whole = {name: p for name, p in pictures.items() if p.shape[:2] == (height, width)}
    quarter = {
        name: p
        for name, p in pictures.items()
        if (SCALE * p.shape[0], SCALE * p.shape[1]) == (height, width)
    }
    kept = {name: p for name, p in pictures.items() if name in whole or name in quarter}
    if max(height, width) <= LARGEST_SIDE:
        return kept, (width, height), None
    top, left = _most_detail(last)
    bottom, right = (min(a + LARGEST_SIDE, b) for a, b in ((top, height), (left, width)))

    def part(name: str, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        scale = SCALE if name in quarter else 1
        return pixels[top // scale : bottom // scale, left // scale : right // scale]

    cut = {name: part(name, pixels) for name, pixels in kept.items()}
    return cut, (right - left, bottom - top), (left, top, right, bottom)


def _most_detail(pixels: NDArray[np.uint8]) -> tuple[int, int]:
    """Top and left of the window with the largest differences between neighbouring pixels."""
    gray = pixels.astype(np.float32).mean(axis=2)
    detail = np.zeros_like(gray)
    detail[:, 1:] += np.abs(np.diff(gray, axis=1))
    detail[1:] += np.abs(np.diff(gray, axis=0))
    sums = np.pad(detail.cumsum(0, dtype=np.float64).cumsum(1), ((1, 0), (1, 0)))
    height, width = gray.shape
    starts = [
        [*range(0, max(1, side - LARGEST_SIDE + 1), LARGEST_SIDE // 8)] for side in (height, width)
    ]
    best, place = -1.0, (0, 0)
    for top in starts[0]:
        for left in starts[1]:
            bottom, right = min(top + LARGEST_SIDE, height), min(left + LARGEST_SIDE, width)
            held = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
            if held > best:
                best, place = float(held), (top, left)
    return place
