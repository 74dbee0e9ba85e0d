"""Upscaling images of any size with a trained model."""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tvqrap.architecture import SCALE
from tvqrap.images.padding import PAD_MULTIPLE, crop_upscaled, pad_to_multiple
from tvqrap.images.reading.high_bit_depth import eight_bits
from tvqrap.images.tensors import to_uint8, to_uint16
from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.photo_io.photo import (
    Photo,
    Pixels,
    enlarged_rows,
    photo_of,
    photo_of_array,
    profile_after,
    stacked,
)
from tvqrap.pretrained.folder import fingerprint
from tvqrap.pretrained.models import Model, find_model
from tvqrap.pretrained.other import OtherNetwork
from tvqrap.pretrained.packaged import UPSCALER
from tvqrap.runtime.device import select_device
from tvqrap.runtime.device_memory import empty_cache, free_device_memory, is_out_of_memory
from tvqrap.upscaling import blending
from tvqrap.upscaling.blending import MirroredImage, channels_first, to_float
from tvqrap.upscaling.colours import match_colours
from tvqrap.upscaling.settings import Colour, Precision, check_choices
from tvqrap.upscaling.tile_norms import Box, shared_norms
from tvqrap.upscaling.tiles import (
    TileLimits,
    Tiles,
    bytes_per_pixel,
    check_limits,
    limits_that_fit,
    tiles_along,
)

Network = UpscalerNetwork | OtherNetwork

Picture = TypeVar("Picture", Image.Image, NDArray[np.uint8], NDArray[np.uint16], Tensor)
Result = TypeVar("Result")

Advance = Callable[[int], None]
"""Called with the LR pixels that have just been upscaled; they add up to those of the image."""

_ROUNDED_ROWS = 64
_OVERLAP, _OTHER_OVERLAP = 16, 32
"""Least overlap of tiles, for our networks and for those of other projects."""
_OTHER_BYTES = 48_000
"""Memory per LR pixel that is assumed of networks of other projects, as the paper's takes."""

_log = logging.getLogger(__name__)


class Upscaler:
    """Enlarges images four times. Equal inputs give equal outputs on one device and thread count.

    An image is padded at the bottom and right to multiples of `pad_multiple`, upscaled and cropped
    back. One that is then larger than 512x512 LR pixels, or than a given `tile`, is upscaled in
    overlapping tiles that fade into each other. Tiles are padded no further than the network needs.
    They are cut where attention has its windows and normalised with statistics of the whole image,
    which makes that close to, and not equal to, upscaling it whole.

    May be used from several threads at once.
    """

    def __init__(
        self,
        network: Network | None = None,
        *,
        device: str | torch.device = "auto",
        precision: Precision = "float32",
        colour: Colour = "keep",
        pad_multiple: int | None = None,
        tile: int | None = None,
        overlap: int | None = None,
    ) -> None:
        """Takes a network, or the small one that comes with the package.

        `device` is `auto` (CUDA, MPS or XPU where torch finds one, else the CPU), `cpu`, `cuda`,
        `cuda:1`, `mps` or `xpu`. `tile` and its least `overlap` with the next are in LR pixels.

        `pad_multiple` is 64 if not given, or the least multiple of 64 that the network can take;
        `tile` is 256. Where memory is short, both it and what is upscaled whole are less; where it
        runs out, they shrink.
        `colour="match"` gives the upscaled image the colours that its LR image has over 17x17
        pixels and more.

        Raises ValueError for another precision or colour, where `pad_multiple` or `tile` are no
        multiples of what the network needs, or the tiles could not cover an image; UsageError for a
        device that is not there.
        """
        # For records of outputs: the limits themselves depend on the machine, and shrink.
        self.given = {"tile": tile, "overlap": overlap, "pad_multiple": pad_multiple}
        if network is None:
            network = find_model(UPSCALER).load()
        ours = None if isinstance(network, OtherNetwork) else network.architecture
        self._needed = needed = 1 if ours is None else ours.lr_multiple
        if pad_multiple is None:
            pad_multiple = 1 if ours is None else math.lcm(PAD_MULTIPLE, needed)
        if pad_multiple < 1 or pad_multiple % needed:
            raise ValueError(f"pad_multiple is {pad_multiple}, expected a multiple of {needed}")
        self.device = select_device(device) if isinstance(device, str) else device
        least = (_OTHER_OVERLAP if ours is None else _OVERLAP) if overlap is None else overlap
        if tile is None:
            per_pixel = _OTHER_BYTES if ours is None else bytes_per_pixel(ours)
            limits = limits_that_fit(free_device_memory(self.device), per_pixel, needed, least)
        else:
            limits = TileLimits(tile, least, tile**2)
        check_limits(limits, needed)
        check_choices(precision, colour)
        self.network = network.eval().to(self.device)
        if ours is not None:
            self.network = self.network.to(memory_format=torch.channels_last)
        self.precision = precision
        self.colour = colour
        self.pad_multiple = pad_multiple
        self.limits = limits
        self._fingerprint: str | None = None

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path | Model,
        device: str | torch.device = "auto",
        *,
        precision: Precision = "float32",
        colour: Colour = "keep",
        pad_multiple: int | None = None,
        tile: int | None = None,
        overlap: int | None = None,
    ) -> Self:
        """Loads a model folder (`models/rap`), a file, or `user/model` of the Hugging Face Hub.

        Files are single files of ours, or those of other projects that spandrel reads. Raises
        UserError where there is no upscaler.
        """
        found = model if isinstance(model, Model) else find_model(model)
        upscaler = cls(
            found.load(),
            device=device,
            precision=precision,
            colour=colour,
            pad_multiple=pad_multiple,
            tile=tile,
            overlap=overlap,
        )
        upscaler._fingerprint = found.fingerprint
        return upscaler

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the weights, or of the file of another project."""
        if self._fingerprint is None:
            self._fingerprint = fingerprint(self.network)
        return self._fingerprint

    def __call__(self, image: Picture) -> Picture:
        """Upscales a PIL image, an array or a tensor, or a batch of the latter two.

        Arrays are uint8 or uint16: gray (H, W), RGB (H, W, 3) or RGBA (H, W, 4), the last two also
        in batches (N, H, W, C). Tensors are floating, in [-1, 1], (3, H, W) or (N, 3, H, W). As
        many images of a batch, if they are not RGBA, go through the network together as a tile
        has room for. What comes back is of the same kind, with four times the height and width.

        A PIL image becomes L, LA, RGB or RGBA, or I;16 for 16-bit gray: gray stays gray,
        transparency is upscaled too, CMYK becomes RGB by way of its profile. Its info has nothing
        but the colour profile of the given image, which its colours depend on. The caller applies
        an EXIF orientation and passes on metadata. A tensor is float32, clamped, on the device of
        the one given.

        Raises ValueError for other shapes and types, and where the network gives values that are
        not finite.
        """
        if isinstance(image, Image.Image):
            return self._upscale_image(image)
        if isinstance(image, np.ndarray):
            return self._in_memory(lambda: self._upscale_array(image))
        if isinstance(image, Tensor):
            return self._in_memory(lambda: self._upscale_tensor(image))
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
        if image.shape[3] == 4 or not self._needs_no_tiles(*image.shape[1:3]):
            return np.stack([self._upscale_array(one) for one in image])
        lr = torch.from_numpy(np.require(image, requirements=("C", "W"))).permute(0, 3, 1, 2)
        levels = to_uint16 if deep else to_uint8
        return np.concatenate(
            [levels(self._upscale_whole(to_float(part))) for part in self._parts(lr)]
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
        if self._needs_no_tiles(*shape[-2:]):
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
        return stacked(enlarged_rows(photo, self.rows, size), size[1])

    def rows(
        self, image: Pixels, advance: Advance | None = None, network: Network | None = None
    ) -> Iterator[Pixels]:
        """Upscales (H, W, 3) and yields it from top to bottom: (rows, 4W, 3) of the same type.

        Only a band of tiles is held at a time. Where memory runs out, the tile is halved, and the
        rows go on below those that were yielded. `network` is that of `network_for`, for a frame of
        an animation. Raises ValueError as `__call__` does.
        """
        lr = channels_first(image)
        levels = to_uint16 if image.dtype == np.uint16 else to_uint8
        yielded = counted = 0

        def report(done: int) -> None:
            nonlocal counted
            if advance is not None and done > counted:
                advance(done - counted)
            counted = max(counted, done)

        while yielded < SCALE * len(image):
            limits, top = self.limits, 0
            try:
                for band in self._bands(lr, report, network):
                    # In parts: rounding takes several copies of its input.
                    for part in band.split(_ROUNDED_ROWS, dim=1):
                        new = part[:, max(0, yielded - top) :]
                        top += part.shape[1]
                        if new.shape[1]:
                            yielded += new.shape[1]
                            yield levels(new)
                continue
            except RuntimeError as error:
                self._check_smaller(limits, error)
            self._shrink(limits)

    def _in_memory(self, upscale: Callable[[], Result]) -> Result:
        """Tries again with smaller tiles where memory runs out."""
        while True:
            limits = self.limits
            try:
                return upscale()
            except RuntimeError as error:
                self._check_smaller(limits, error)
            self._shrink(limits)

    def _check_smaller(self, limits: TileLimits, error: RuntimeError) -> None:
        """Raises the error where smaller tiles are no help."""
        if not is_out_of_memory(error) or limits.smaller(self._needed) is None:
            raise error

    def _shrink(self, limits: TileLimits) -> None:
        # Outside the except block, whose error holds the tensors of the failed attempt.
        empty_cache(self.device)
        smaller = limits.smaller(self._needed)
        if smaller is not None and self.limits is limits:  # another thread may have done so
            self.limits = smaller
            _log.warning("memory ran out, going on with tiles of %d", smaller.tile)

    def _padded(self, side: int) -> int:
        return side + -side % self.pad_multiple

    def _needs_no_tiles(self, height: int, width: int) -> bool:
        pixels = self._padded(height) * self._padded(width)
        return pixels <= max(self.limits.whole, self.pad_multiple**2)

    def _tiles(self, side: int) -> Tiles:
        # Shared statistics leave out the padding, which can be as small as the network allows.
        side += -side % self._needed
        return tiles_along(side, self.limits.tile, self.limits.overlap, self._needed)

    def _parts(self, batch: Tensor) -> Iterator[Tensor]:
        """A batch (N, 3, H, W) that fits tiles, in parts that take the memory of a tile."""
        pixels = self._padded(batch.shape[2]) * self._padded(batch.shape[3])
        yield from batch.split(max(1, self.limits.tile**2 // pixels))

    def _bands(
        self, lr: Tensor, report: Advance = lambda done: None, network: Network | None = None
    ) -> Iterator[Tensor]:
        """(3, H, W), float in [-1, 1], uint8 or uint16, to float (3, rows, 4W), top to bottom.

        The next band overwrites the one before. `report` is called with the LR pixels done so far.
        """
        height, width = lr.shape[1:]
        if network is None and self._needs_no_tiles(height, width):
            yield self._upscale_whole(to_float(lr)[None])[0]
            report(height * width)
            return
        rows, columns = self._tiles(height), self._tiles(width)
        image = self._mirrored(lr)
        network = network or self._network_for([image])
        band = blending.BandBlender(rows, columns, height, width)
        for row, top in enumerate(rows.starts):
            for column, left in enumerate(columns.starts):
                lr_tile = image.cut(Box(top, left, rows.size, columns.size))
                band.add(row, column, self._run(lr_tile[None], network)[0])
                own = (*rows.starts[1:], height)[row] - top
                report(width * top + width * own * (column + 1) // len(columns.starts))
            yield band.finished(row)
            band.start_next(row)

    def network_for(self, frames: Sequence[Pixels]) -> Network:
        """The network for all frames (H, W, 3) of an animation, for `rows`.

        It normalises with statistics of several frames, so that what does not move stays the same.
        """
        images = [self._mirrored(channels_first(frame)) for frame in frames]
        return self._in_memory(lambda: self._network_for(images))

    def _mirrored(self, lr: Tensor) -> MirroredImage:
        """An image (3, H, W) that is extended to the tiles that cover it."""
        rows, columns = (self._tiles(side) for side in lr.shape[1:])
        return MirroredImage(lr, rows.starts[-1] + rows.size, columns.starts[-1] + columns.size)

    @torch.inference_mode()
    def _network_for(self, images: Sequence[MirroredImage]) -> Network:
        """The network, with the normalisation statistics of images of one size."""
        if isinstance(self.network, OtherNetwork):
            return self.network
        patches = blending.spread_patches(images, self.limits.tile, self._needed)
        with self._autocast():
            return shared_norms(self.network, self._on_device(patches))

    def _upscale_whole(self, lr: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 3, 4H, 4W), not clamped."""
        padded = pad_to_multiple(lr, self.pad_multiple)
        return crop_upscaled(self._run(padded, self.network), *lr.shape[2:])

    @torch.inference_mode()
    def _run(self, lr: Tensor, network: Network) -> Tensor:
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
        enabled = self.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)
