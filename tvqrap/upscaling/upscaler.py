"""Upscaling images of any size with a trained model."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tvqrap.architecture import SCALE, Architecture
from tvqrap.images.high_bit_depth import eight_bits
from tvqrap.images.tensors import to_uint8, to_uint16
from tvqrap.networks.padding import (
    PAD_MULTIPLE,
    crop_upscaled,
    mirrored_positions,
    pad_to_multiple,
)
from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.photo_io.photo import (
    Photo,
    Pixels,
    enlarged_rows,
    photo_of,
    photo_of_array,
    profile_after,
)
from tvqrap.pretrained.folder import read_config
from tvqrap.pretrained.packaged import UPSCALER
from tvqrap.pretrained.upscaler import load_upscaler
from tvqrap.runtime.errors import UserError
from tvqrap.runtime.memory import free_memory
from tvqrap.upscaling.colours import match_colours
from tvqrap.upscaling.tile_norms import patch_places, shared_norms
from tvqrap.upscaling.tiles import Tiles, tile_that_fits, tiles_along

Precision = Literal["float32", "bfloat16"]

Colour = Literal["keep", "match"]

Picture = TypeVar("Picture", Image.Image, NDArray[np.uint8], NDArray[np.uint16], Tensor)

Advance = Callable[[int], None]
"""Called with the LR pixels that the network has just seen."""

_PATCH = 128

_LEAST_PATCHES = 4
"""Side in LR pixels and number of the patches that tell how an image in tiles is normalised."""

_ROUNDED_ROWS = 64

_MAPS = 6
"""Maps of the widest layer, at the upscaled size, that are held at a time (measured: 5)."""


class Upscaler:
    """Enlarges images four times; the same input gives the same output on the same device.

    An image is padded at the bottom and right to multiples of `pad_multiple`, upscaled and cropped
    back. One that is then larger than a square of `tile` LR pixels is upscaled in overlapping tiles
    that fade into each other, padded no further than the network needs. They are cut where
    attention has its windows and normalised with statistics of the whole image, which makes that
    close to, and not equal to, upscaling it whole.

    May be used from several threads at once.
    """

    def __init__(
        self,
        network: UpscalerNetwork | None = None,
        *,
        device: str | torch.device = "cpu",
        precision: Precision = "float32",
        colour: Colour = "keep",
        pad_multiple: int | None = None,
        tile: int | None = None,
        overlap: int = 16,
    ) -> None:
        """Takes a network, or the small one that comes with the package.

        `tile` and its least `overlap` with the next are in LR pixels.

        `pad_multiple` is 64 if not given, or the least multiple of 64 that the network can take;
        `tile` is 256, or less where memory is short. `colour="match"` gives the upscaled image the
        colours that its LR image has over 17x17 pixels and more.

        Raises ValueError for another precision or colour, where `pad_multiple` or `tile` are no
        multiples of what the network needs, or the tiles could not cover an image.
        """
        if network is None:
            network = load_upscaler(UPSCALER)
        needed = network.architecture.lr_multiple
        if pad_multiple is None:
            pad_multiple = math.lcm(PAD_MULTIPLE, needed)
        if pad_multiple < 1 or pad_multiple % needed:
            raise ValueError(f"pad_multiple is {pad_multiple}, expected a multiple of {needed}")
        self.device = torch.device(device)
        if tile is None:
            per_pixel = bytes_per_pixel(network.architecture)
            tile = tile_that_fits(_free_memory(self.device), per_pixel, needed)
            overlap = min(overlap, tile // 2)
        if tile < 2 * needed or tile % needed:
            raise ValueError(f"tile is {tile}, expected a multiple of {needed} from {2 * needed}")
        if not 0 <= overlap <= tile // 2:
            raise ValueError(f"overlap is {overlap}, expected 0 to half of the tile ({tile // 2})")
        for name, value, allowed in (
            ("precision", precision, get_args(Precision)),
            ("colour", colour, get_args(Colour)),
        ):
            if value not in allowed:
                raise ValueError(f"{name} is {value!r}, expected {' or '.join(allowed)}")
        self.network = network.eval().to(self.device).to(memory_format=torch.channels_last)
        self.precision = precision
        self.colour = colour
        self.pad_multiple = pad_multiple
        self.tile = tile
        self.overlap = overlap

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        device: str | torch.device = "cpu",
        *,
        precision: Precision = "float32",
        colour: Colour = "keep",
        pad_multiple: int | None = None,
        tile: int | None = None,
        overlap: int = 16,
    ) -> Self:
        """Loads a model folder (`models/rap`, say); raises UserError where it does not hold one."""
        path = Path(folder)
        kind = read_config(path).kind
        if kind != "upscaler":
            raise UserError(f"{path}: holds a {kind}, expected an upscaler")
        return cls(
            load_upscaler(path),
            device=device,
            precision=precision,
            colour=colour,
            pad_multiple=pad_multiple,
            tile=tile,
            overlap=overlap,
        )

    def __call__(self, image: Picture) -> Picture:
        """Upscales a PIL image, an array or a tensor, or a batch of the latter two.

        Arrays are uint8 or uint16: gray (H, W), RGB (H, W, 3) or RGBA (H, W, 4), the last two also
        in batches (N, H, W, C). Tensors are floating, in [-1, 1], (3, H, W) or (N, 3, H, W). As
        many images of a batch, if they are not RGBA, go through the network together as a tile
        has room for. What comes back is of the same kind, with four times the height and width.

        A PIL image becomes L, LA, RGB or RGBA, or I;16 for 16-bit gray: gray stays gray,
        transparency is upscaled too, CMYK becomes RGB by way of its profile. Its info has the
        colour profile of the one given, without which its pixels have no certain colours, and
        nothing else: an EXIF orientation is the caller's to apply, metadata the caller's to pass
        on. A tensor is float32, clamped, on the device of the one given.

        Raises ValueError for other shapes and types, and where the network gives values that are
        not finite.
        """
        if isinstance(image, Image.Image):
            return self._upscale_image(image)
        if isinstance(image, np.ndarray):
            return self._upscale_array(image)
        if isinstance(image, Tensor):
            return self._upscale_tensor(image)
        raise ValueError(
            f"image is a {type(image).__name__}, expected a PIL image, a numpy array or a tensor"
        )

    def _upscale_image(self, image: Image.Image) -> Image.Image:
        photo = photo_of(image)
        if photo.alpha is not None:  # Pillow has no 16-bit images with transparency
            photo = replace(photo, pixels=eight_bits(photo.pixels), alpha=eight_bits(photo.alpha))
        upscaled = Image.fromarray(self._upscale_photo(photo))
        profile = profile_after(image, photo.gray)
        if profile is not None:
            upscaled.info["icc_profile"] = profile
        return upscaled

    def _upscale_array(self, image: NDArray[Any]) -> NDArray[Any]:
        deep = image.dtype == np.uint16
        coloured = image.ndim in (3, 4) and image.shape[-1] in (3, 4)
        if not (deep or image.dtype == np.uint8) or not (coloured or image.ndim == 2):
            raise ValueError(
                f"array is {image.dtype} {image.shape}, expected uint8 or uint16 (height, width), "
                "(height, width, 3 or 4) or (count, height, width, 3 or 4)"
            )
        if not image.size:
            raise ValueError(f"array of shape {image.shape} holds no pixels")
        if image.ndim < 4:
            photo = photo_of_array(image)
            upscaled = self._upscale_photo(photo)
            if image.shape[2:] == (4,) and photo.alpha is None:
                opaque = np.full((*upscaled.shape[:2], 1), np.iinfo(image.dtype).max, image.dtype)
                upscaled = np.concatenate([upscaled, opaque], axis=2)
            return upscaled
        if image.shape[3] == 4 or not self._fits_one_tile(*image.shape[1:3]):
            return np.stack([self._upscale_array(one) for one in image])
        lr = torch.from_numpy(np.require(image, requirements=("C", "W"))).permute(0, 3, 1, 2)
        levels = to_uint16 if deep else to_uint8
        return np.concatenate(
            [levels(self._upscale_whole(_floating(part))) for part in self._parts(lr)]
        )

    def _upscale_tensor(self, image: Tensor) -> Tensor:
        shape = tuple(image.shape)
        if not image.is_floating_point() or image.ndim not in (3, 4) or shape[-3] != 3:
            raise ValueError(
                f"tensor is {image.dtype} {shape}, expected floating (3, height, width) "
                "or (count, 3, height, width)"
            )
        if not image.numel():
            raise ValueError(f"tensor of shape {shape} holds no pixels")
        batch = image.float() if image.ndim == 4 else image.float()[None]
        if self._fits_one_tile(*shape[-2:]):
            upscaled = torch.cat([self._upscale_whole(part) for part in self._parts(batch)])
        else:
            upscaled = torch.stack(
                [torch.cat([band.clone() for band in self._bands(one)], dim=1) for one in batch]
            )
        upscaled = upscaled.clamp(-1, 1).to(image.device)
        return upscaled if image.ndim == 4 else upscaled[0]

    def _upscale_photo(self, photo: Photo) -> Any:
        height, width = photo.pixels.shape[:2]
        size = (SCALE * width, SCALE * height)
        return _stacked(enlarged_rows(photo, self.rows, size), size[1])

    def rows(self, image: Pixels, advance: Advance | None = None) -> Iterator[Pixels]:
        """Upscales (H, W, 3) and yields it from top to bottom: (rows, 4W, 3) of the same type.

        Only a band of tiles is held at a time. Raises ValueError as `__call__` does.
        """
        lr = torch.from_numpy(np.require(image, requirements=("C", "W"))).permute(2, 0, 1)
        levels = to_uint16 if image.dtype == np.uint16 else to_uint8
        for band in self._bands(lr, advance):
            # In parts: rounding takes several copies of what it rounds.
            for part in band.split(_ROUNDED_ROWS, dim=1):
                yield levels(part)

    def work(self, height: int, width: int) -> int:
        """LR pixels that the network sees for an image of that size, padding and overlaps too."""
        if self._fits_one_tile(height, width):
            return self._padded(height) * self._padded(width)
        rows, columns = self._tiles(height), self._tiles(width)
        return rows.size * len(rows.starts) * columns.size * len(columns.starts)

    def _padded(self, side: int) -> int:
        return side + -side % self.pad_multiple

    def _fits_one_tile(self, height: int, width: int) -> bool:
        room = max(self.tile, self.pad_multiple) ** 2
        return self._padded(height) * self._padded(width) <= room

    def _tiles(self, side: int) -> Tiles:
        # Where statistics are shared, padding has no part in them and can be as little as it may.
        needed = self.network.architecture.lr_multiple
        return tiles_along(side + -side % needed, self.tile, self.overlap, needed)

    def _parts(self, batch: Tensor) -> Iterator[Tensor]:
        """A batch (N, 3, H, W) that fits tiles, in parts that take the memory of a tile."""
        pixels = self._padded(batch.shape[2]) * self._padded(batch.shape[3])
        yield from batch.split(max(1, self.tile**2 // pixels))

    def _bands(self, lr: Tensor, advance: Advance | None = None) -> Iterator[Tensor]:
        """(3, H, W), float in [-1, 1], uint8 or uint16, to float (3, rows, 4W), top to bottom.

        What is yielded is overwritten by what comes next.
        """
        height, width = lr.shape[1:]
        if self._fits_one_tile(height, width):
            yield self._upscale_whole(_floating(lr)[None])[0]
            if advance is not None:
                advance(self.work(height, width))
            return
        rows, columns = self._tiles(height), self._tiles(width)
        padded = rows.starts[-1] + rows.size, columns.starts[-1] + columns.size
        row_weights, column_weights = rows.weights(), columns.weights()
        row_places, column_places = (
            mirrored_positions(side, end) for side, end in zip((height, width), padded, strict=True)
        )

        def cut(top: int, left: int, high: int, wide: int) -> Tensor:
            """A part of the padded image: float (3, high, wide)."""
            part = lr[:, row_places[top : top + high]]
            return _floating(part[:, :, column_places[left : left + wide]])

        band = torch.zeros(3, SCALE * rows.size, SCALE * width)
        network = self._network_for(cut, *padded)
        for index, top in enumerate(rows.starts):
            fade = torch.from_numpy(row_weights[index])[:, None]
            for left, weights in zip(columns.starts, column_weights, strict=True):
                tile = self._run(cut(top, left, rows.size, columns.size)[None], network)[0]
                tile = tile[..., : SCALE * (width - left)]
                across = torch.from_numpy(weights)[: tile.shape[2]]
                place = slice(SCALE * left, SCALE * left + tile.shape[2])
                band[..., place] += tile * fade * across
                if advance is not None:
                    advance(rows.size * columns.size)
            last = index + 1 == len(rows.starts)
            ready = SCALE * ((height if last else rows.starts[index + 1]) - top)
            # Below, the next tiles are still to be added.
            yield band[:, :ready]
            if not last:
                rest = band[:, ready:].clone()
                band[:, : rest.shape[1]] = rest
                band[:, rest.shape[1] :] = 0

    @torch.inference_mode()
    def _network_for(
        self, cut: Callable[[int, int, int, int], Tensor], height: int, width: int
    ) -> UpscalerNetwork:
        """The network, with normalisations of a whole padded image of which `cut` gives parts."""
        needed = self.network.architecture.lr_multiple
        side = max(needed, min(_PATCH, self.tile) // needed * needed)
        # Together they take the memory of a tile.
        most = max(_LEAST_PATCHES, (self.tile // side) ** 2)
        places = patch_places(height, width, side, most, needed)
        patches = torch.stack([cut(*place) for place in places])
        with self._autocast():
            return shared_norms(self.network, self._on_device(patches))

    def _upscale_whole(self, lr: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 3, 4H, 4W), not clamped."""
        padded = pad_to_multiple(lr, self.pad_multiple)
        return crop_upscaled(self._run(padded, self.network), *lr.shape[2:])

    @torch.inference_mode()
    def _run(self, lr: Tensor, network: UpscalerNetwork) -> Tensor:
        """(N, 3, H, W), sides multiples of what the network needs, to (N, 3, 4H, 4W) on the CPU."""
        lr = self._on_device(lr)
        with self._autocast():
            sr = network(lr).float()
        if self.colour == "match":
            sr = match_colours(sr, lr)
        if not sr.isfinite().all():
            raise ValueError("the model gives values that are not finite")
        return sr.cpu()

    def _on_device(self, lr: Tensor) -> Tensor:
        return lr.to(self.device).contiguous(memory_format=torch.channels_last)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"
        )


def bytes_per_pixel(architecture: Architecture) -> int:
    """Memory that activations take for each LR pixel at the peak, in the decoder's last level."""
    return _MAPS * architecture.channels(128) * SCALE**2 * 4


def _free_memory(device: torch.device) -> int | None:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()


def _floating(lr: Tensor) -> Tensor:
    """uint8 or uint16 as float32 in [-1, 1]; what is floating already, as it is."""
    if lr.is_floating_point():
        return lr
    return lr.float() / (127.5 if lr.dtype == torch.uint8 else 32767.5) - 1


def _stacked(bands: Iterator[Pixels], height: int) -> Any:
    """Bands of rows in one array of `height` rows, without a second copy of them all."""
    first = next(bands)
    whole = np.empty((height, *first.shape[1:]), first.dtype)
    whole[: len(first)] = first
    top = len(first)
    for band in bands:
        whole[top : top + len(band)] = band
        top += len(band)
    return whole
