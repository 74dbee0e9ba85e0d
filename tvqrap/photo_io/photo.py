"""A photograph's pixels, before and after upscaling.

Converts any Pillow image to RGB and alpha for the upscaler, and the result to gray, RGB and alpha.
Uses neither torch nor files.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tvqrap.architecture import SCALE
from tvqrap.images.reading.high_bit_depth import keyed_alpha
from tvqrap.images.reading.open import deep_gray, to_rgb
from tvqrap.photo_io.resampling import resampled_rows

Pixels = NDArray[np.uint8] | NDArray[np.uint16]

_ALPHA_ROWS = 64
"""Rows of alpha that are enlarged at a time."""
_GRAY_MODES = frozenset({"1", "L", "LA", "La"})


@dataclass(frozen=True)
class Photo:
    """Pixels, upright, of 8 bits or of 16 if the photograph has them."""

    pixels: Pixels
    """(H, W, 3); fully transparent pixels have the colour of visible pixels near them."""
    alpha: Pixels | None
    """(H, W), of the same type; None where all pixels are opaque."""
    gray: bool
    """Whether the photograph is gray and stays gray."""


def photo_of(image: Image.Image, gray: bool = False) -> Photo:
    """Takes an image of any mode; raises ValueError as `tvqrap.images.reading.open.to_rgb` does.

    `gray` is whether it counts as gray although its mode has colours.

    A gray image of integers gives 16 bits, all others 8; for 16-bit colours see `deep_colours`.
    """
    if image.mode.startswith("I"):
        values = deep_gray(image)
        alpha = keyed_alpha(values[..., None], image.info.get("transparency"))
        return _photo(values[..., None].repeat(3, axis=2), alpha, gray=True)
    gray = gray or image.mode in _GRAY_MODES
    if image.has_transparency_data:
        with_alpha = np.array(image.convert("RGBA"))
        return _photo(with_alpha[..., :3], with_alpha[..., 3], gray)
    return _photo(np.array(to_rgb(image)), None, gray)


def profile_after(image: Image.Image, gray: bool) -> bytes | None:
    """The image's colour profile, if it is one of the enlarged image's colours; None otherwise.

    `gray` is whether the enlarged image is gray. CMYK has been converted to sRGB.
    """
    profile = image.info.get("icc_profile")
    if image.mode == "CMYK" or not isinstance(profile, bytes):
        return None
    return profile if profile[16:20] == (b"GRAY" if gray else b"RGB ") else None


def photo_of_array(pixels: Pixels) -> Photo:
    """Takes gray (H, W), RGB (H, W, 3) or RGBA (H, W, 4)."""
    if pixels.ndim == 2:
        return _photo(pixels[..., None].repeat(3, axis=2), None, gray=True)
    return _photo(pixels[..., :3], pixels[..., 3] if pixels.shape[2] == 4 else None, gray=False)


def _photo(pixels: Pixels, alpha: Pixels | None, gray: bool) -> Photo:
    if alpha is None or alpha.min() == np.iinfo(alpha.dtype).max:
        return Photo(pixels, None, gray)
    return Photo(fill_hidden(pixels, alpha), alpha, gray)


def alike(photos: Sequence[Photo]) -> list[Photo]:
    """Gives all frames the same channels: gray if all are gray, with alpha if one has it."""
    gray = all(photo.gray for photo in photos)
    if all(photo.alpha is None for photo in photos):
        return [Photo(photo.pixels, None, gray) for photo in photos]
    found = []
    for photo in photos:
        alpha = photo.alpha
        if alpha is None:
            opaque = np.iinfo(photo.pixels.dtype).max
            alpha = np.full(photo.pixels.shape[:2], opaque, photo.pixels.dtype)
        found.append(Photo(photo.pixels, alpha, gray))
    return found


def fill_hidden(pixels: Pixels, alpha: Pixels) -> Pixels:
    """Spreads visible colours into fully transparent pixels, whose own colours are arbitrary.

    (H, W, 3) and (H, W). Without this a hidden black would show as a dark fringe where the
    upscaler mixes it with its neighbours. Unchanged where nothing is visible.
    """
    hidden = alpha == 0
    if hidden.all() or not hidden.any():
        return pixels
    levels = []
    weight = alpha.astype(np.float32)[..., None]
    colour = pixels * weight
    while True:
        levels.append((colour, weight))
        if max(weight.shape[:2]) == 1:
            break
        colour, weight = _halved(colour), _halved(weight)
    filled = levels[-1][0] / np.maximum(levels[-1][1], 1e-6)
    for colour, weight in reversed(levels[:-1]):
        larger = filled.repeat(2, 0).repeat(2, 1)[: weight.shape[0], : weight.shape[1]]
        filled = np.where(weight > 0, colour / np.maximum(weight, 1e-6), larger)
    spread = np.rint(filled).clip(0, np.iinfo(pixels.dtype).max).astype(pixels.dtype)
    return np.where(hidden[..., None], spread, pixels)


def enlarged_rows(
    photo: Photo, upscale: Callable[[Pixels], Iterator[Pixels]], size: tuple[int, int]
) -> Iterator[Pixels]:
    """Enlarges a photograph to `size` (width, height) and yields bands of rows, top to bottom.

    `upscale` enlarges (H, W, 3) four times, in bands of rows. A band is (rows, width) for gray, or
    (rows, width, channels): 2 for gray and alpha, 3 for RGB, 4 for RGB and alpha.
    """
    height, width = photo.pixels.shape[:2]
    rows = upscale(photo.pixels)
    if size != (SCALE * width, SCALE * height):
        rows = resampled_rows(rows, SCALE * height, size)
    alpha = None if photo.alpha is None else _AlphaRows(photo.alpha, size)
    for band in rows:
        if photo.gray:
            band = _gray(band)
        if alpha is not None:
            band = cast("Pixels", np.dstack([band, alpha.take(len(band))]))
        yield band


def stacked(bands: Iterator[Pixels], height: int) -> Pixels:
    """Joins bands of rows to one array of `height` rows, without a second copy of all."""
    first = next(bands)
    whole = np.empty((height, *first.shape[1:]), first.dtype)
    whole[: len(first)] = first
    top = len(first)
    for band in bands:
        whole[top : top + len(band)] = band
        top += len(band)
    return whole


class _AlphaRows:
    """Alpha (H, W) enlarged to `size` (width, height), as many rows at a time as are asked for.

    It is enlarged in bands of its own, so that no pixel depends on the bands of the colours.
    """

    def __init__(self, alpha: Pixels, size: tuple[int, int]) -> None:
        height = len(alpha)
        bands = (alpha[top : top + _ALPHA_ROWS] for top in range(0, height, _ALPHA_ROWS))
        self._bands = resampled_rows(bands, height, size, Image.Resampling.BICUBIC)
        self._held: list[Pixels] = []

    def take(self, rows: int) -> Pixels:
        """The next rows."""
        while sum(map(len, self._held)) < rows:
            self._held.append(next(self._bands))
        held = cast("Pixels", np.concatenate(self._held))
        self._held = [held[rows:]]
        return held[:rows]


def _gray(band: Pixels) -> Pixels:
    """Brightness (H, W) of (H, W, 3)."""
    if band.dtype == np.uint8:
        return np.asarray(Image.fromarray(band).convert("L"))
    # Pillow's own weights, in 65536ths.
    weighted = band @ np.array([19595, 38470, 7471], np.uint32) + np.uint32(0x8000)
    return (weighted >> 16).astype(np.uint16)


def _halved(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sums of 2x2 pixels (H, W, C); a last odd row or column stands alone."""
    height, width = values.shape[:2]
    even: NDArray[np.float32] = np.pad(values, ((0, height % 2), (0, width % 2), (0, 0)))
    return even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]
