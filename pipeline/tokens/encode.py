"""Encodes the HR crops of a pair shard to structure and codes, in batches."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.config import TokensSettings
from pipeline.executor.prefetch import in_threads
from pipeline.shards.codec import decode_png, digest_member
from pipeline.shards.manifest import Manifest
from pipeline.shards.tar import Sample
from pipeline.tokens.quarantine import BadSampleError
from tvqrap.architecture import SCALE
from tvqrap.pretrained.folder import fingerprint, load_tokenizer
from tvqrap.runtime.device import on_device, select_device, set_cuda_arithmetic
from tvqrap.runtime.errors import UserError
from tvqrap.runtime.hardware import Machine


@dataclass(frozen=True)
class Crop:
    """A sample of a pair shard with its decoded HR crop, uint8 (H, W, 3)."""

    sample: Sample
    hr: NDArray[np.uint8]


def pair_images(manifest: Manifest) -> dict[str, int]:
    """The images of each pair of a set: member name, and how many times smaller than HR it is."""
    variants = range(manifest.variants)
    images = {"hr.png": 1} | {f"lr{variant}.png": SCALE for variant in variants}
    if manifest.params["settings"].get("target") == "both":
        images |= {f"teacher{variant}.png": 1 for variant in variants}
    return images


def batches(
    samples: Iterable[Sample],
    size: int,
    *,
    multiple: int,
    images: Mapping[str, int],
    on_bad: Callable[[Sample, BadSampleError], None],
    threads: int = 1,
) -> Iterator[list[Crop]]:
    """Crops of one shard in its order, up to `size` of one shape together.

    Samples with a missing or damaged member, or an HR crop whose sides are no multiples of
    `multiple`, go to `on_bad` and into no batch. So the other samples' batches follow from the
    shard alone. `images` are the images that each sample has, from `pair_images`. `threads`
    decode.
    """

    def checked(sample: Sample) -> Crop | tuple[Sample, BadSampleError]:
        try:
            return Crop(sample, checked_hr(sample, multiple, images))
        except BadSampleError as error:
            return sample, error

    batch: list[Crop] = []
    for crop in in_threads(checked, samples, threads):
        if not isinstance(crop, Crop):
            on_bad(*crop)
            continue
        if batch and (len(batch) == size or batch[0].hr.shape != crop.hr.shape):
            yield batch
            batch = []
        batch.append(crop)
    if batch:
        yield batch


def checked_hr(sample: Sample, multiple: int, images: Mapping[str, int]) -> NDArray[np.uint8]:
    """The HR crop of a pair, uint8 (H, W, 3), after a check of all its members.

    Raises `BadSampleError` where a member is missing or damaged, where a side of the crop is no
    multiple of `multiple`, or where the size of another of the `images` does not fit it.
    """
    decoded = {name: _decoded(sample, name) for name in images}
    for name in sorted(sample.members.keys() - images.keys()):
        _check_decodes(sample, name)
    hr = decoded["hr.png"]
    height, width = hr.shape[:2]
    if height % multiple or width % multiple:
        raise BadSampleError(f"its HR crop is {width}x{height}, expected multiples of {multiple}")
    for name, times in images.items():
        found = decoded[name].shape[:2]
        if found != (height // times, width // times):
            raise BadSampleError(
                f"its {name} is {found[1]}x{found[0]}, expected {width // times}x{height // times}"
            )
    return hr


def _decoded(sample: Sample, name: str) -> NDArray[np.uint8]:
    if name not in sample.members:
        raise BadSampleError(f"it has no {name}")
    try:
        return decode_png(sample.members[name])
    except ValueError as error:
        raise BadSampleError(f"its {name} does not decode") from error


def _check_decodes(sample: Sample, name: str) -> None:
    try:
        digest_member(hashlib.sha256(), f"{sample.key}.{name}", sample.members[name])
    except (ValueError, RecursionError) as error:
        raise BadSampleError(f"its {name} does not decode") from error


class Encoder:
    """Encodes batches of HR crops with a tokenizer, in float32 on its device."""

    def __init__(self, folder: Path, expected: str, settings: TokensSettings) -> None:
        """Loads the tokenizer of a model folder.

        Raises `UserError` where its fingerprint is not `expected`, or where this machine does not
        have the device.
        """
        torch.set_num_threads(settings.threads)
        # A code is the nearest of close entries: formats with fewer digits change some codes.
        set_cuda_arithmetic(tf32=False, cudnn_benchmark=False)
        tokenizer = load_tokenizer(folder)
        if fingerprint(tokenizer) != expected:
            raise UserError(f"{folder}: not the tokenizer that the extraction began with")
        self.device = select_device(settings.device, "tokens.device")
        self.tokenizer = on_device(tokenizer, self.device)
        self.architecture = tokenizer.architecture
        self.machine = Machine.here(settings.device)

    def images(self, batch: list[Crop]) -> Tensor:
        """Crops of one shape as float32 (N, 3, H, W) in [-1, 1], on the device."""
        hr = np.stack([crop.hr for crop in batch])
        images = torch.from_numpy(hr).to(self.device).permute(0, 3, 1, 2).float()
        return images.div_(127.5).sub_(1)

    def __call__(self, batch: list[Crop]) -> tuple[NDArray[np.float32] | None, NDArray[np.int64]]:
        """(structure (N, C, h, w), None without a structure branch; codes (N, h', w'))."""
        structure, codes = self.tokenizer.tokenize(self.images(batch))
        return None if structure is None else structure.cpu().numpy(), codes.cpu().numpy()


def half_structure(structure: NDArray[np.float32]) -> NDArray[np.float16]:
    """A structure in float16, as shards store it. Raises `BadSampleError` where it does not fit."""
    if not np.isfinite(structure).all() or np.abs(structure).max() > np.finfo(np.float16).max:
        raise BadSampleError("its structure does not fit 16 bits")
    return structure.astype(np.float16)
