"""Estimates of an extraction before it starts: samples, bytes and hours."""

import time
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch

from pipeline.config import SetSettings, TokensSettings
from pipeline.shards.manifest import MANIFEST, Manifest, sets_in
from pipeline.shards.tar import read_shard
from pipeline.sources.photos import discover
from pipeline.storage.location import Location
from pipeline.tokens.shard import is_carried
from tvqrap.architecture import SCALE, Architecture
from tvqrap.networks.tokenizer import Tokenizer
from tvqrap.runtime.device import on_device, select_device
from tvqrap.runtime.errors import UsageError, UserError

_BLOCK = 512
"""Bytes of a tar header; the content of a member is padded to a multiple of it."""
_ARRAY_HEADER = 128
"""Bytes before the values of a `.npy`."""


@dataclass(frozen=True)
class Workload:
    """A set of samples to extract, all of one HR size."""

    name: str
    samples: int
    size: int
    """Side of the HR crop."""
    carried: int | None
    """Bytes per sample that are copied from the pairs (LR images, record), as members of a tar;
    None where there are no pairs yet to measure them on."""
    shards: int | None = None
    """Number of pair shards, each the task of one worker; None where there are no pairs yet."""

    def token_bytes(self, architecture: Architecture) -> int:
        """Bytes per sample of codes and structure, as members of a tar."""
        arrays = [2 * (self.size // architecture.texture) ** 2]
        if architecture.structure is not None:
            side = self.size // architecture.structure
            arrays.append(2 * prod((architecture.structure_channels, side, side)))
        return sum(_member(_ARRAY_HEADER + values) for values in arrays)


@dataclass(frozen=True)
class Estimate:
    """The bytes and hours of one workload."""

    name: str
    samples: int
    size: int
    token_bytes: int
    """Bytes of the codes and structures of all samples."""
    carried_bytes: int | None
    """Bytes of the LR images and records of all samples; None where not known."""
    rate: float
    """Samples per second of one worker."""
    workers: int
    """The workers that have a shard to work on."""
    hours: float


def workloads(source: Location, size: int | None, crops: int | None) -> list[Workload]:
    """The workloads of a manifest, a set of pairs, or a folder of sets or of photographs.

    Each photograph counts as `crops` samples (1 if not given) of side `size`; pairs take neither
    option. The bytes copied from pairs are measured on the first shard of each set. Raises
    `UserError` where `source` is none of these.
    """
    folder = source.parent if source.name == MANIFEST else source
    if sets := sets_in(folder):
        if size is not None or crops is not None:
            raise UsageError(
                f"{source}: holds pairs, whose size and number are given; --size and --crops are "
                "for photographs"
            )
        return [_of_pairs(path) for path in sets]
    photos = discover(folder).photos if isinstance(folder, Path) else []
    if not photos:
        raise UserError(f"{source}: found no {MANIFEST} and no photograph")
    if size is None:
        raise UserError(f"{source}: holds photographs, expected --size, the side of their HR crops")
    return [Workload(str(source), len(photos) * (crops or 1), size, None)]


def _of_pairs(folder: Location) -> Workload:
    manifest = Manifest.load(folder)
    if manifest.kind != "pairs":
        raise UserError(f"{folder}: holds {manifest.kind}, expected pairs or photographs")
    carried = count = 0
    if manifest.shards:
        for sample in read_shard(manifest.home(folder) / manifest.shards[0].name):
            count += 1
            carried += sum(
                _member(len(data)) for name, data in sample.members.items() if is_carried(name)
            )
    size = manifest.crop_size
    each = round(carried / max(1, count))
    return Workload(manifest.set, manifest.samples, size, each, len(manifest.shards))


def _member(content: int) -> int:
    return _BLOCK + -(-content // _BLOCK) * _BLOCK


def estimate(workload: Workload, architecture: Architecture, rate: float, workers: int) -> Estimate:
    """The bytes and hours of a workload at `rate` samples per second and worker.

    Raises `UserError` where the network does not take crops of its size.
    """
    check_size(workload.size, architecture)
    samples, carried = workload.samples, workload.carried
    if workload.shards is not None:
        workers = max(1, min(workers, workload.shards))
    return Estimate(
        name=workload.name,
        samples=samples,
        size=workload.size,
        token_bytes=samples * workload.token_bytes(architecture),
        carried_bytes=None if carried is None else samples * carried,
        rate=rate,
        workers=workers,
        hours=samples / rate / workers / 3600,
    )


def check_size(size: int, architecture: Architecture) -> None:
    """Raises `UserError` where the network does not take HR crops of this size."""
    multiple = architecture.hr_multiple
    if size % multiple:
        raise UserError(f"HR crops of {size}: expected a multiple of {multiple} for this network")


@torch.inference_mode()
def measured_rate(
    architecture: Architecture, settings: TokensSettings, size: int, seconds: float
) -> float:
    """Samples per second that one worker encodes on this machine, after one warm-up batch.

    The weights are random, because the speed does not depend on them. Reading and writing shards is
    not measured. Raises `UserError` where this machine has no `tokens.device`, or where the network
    does not take crops of this size.
    """
    check_size(size, architecture)
    torch.set_num_threads(settings.threads)
    device = select_device(settings.device, "tokens.device")
    tokenizer = on_device(Tokenizer(architecture).eval(), device)
    images = torch.rand(settings.batch_size, 3, size, size, device=device) * 2 - 1
    tokenizer.tokenize(images)[1].cpu()
    done, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds or not done:
        tokenizer.tokenize(images)[1].cpu()
        done += settings.batch_size
    return done / elapsed


HR_PNG = 1.8
"""Bytes a pixel of HR crops: 1.46 to 1.69 for the sets of the profile `paper` cut from the
photographs of this project, 1.83 to 1.89 from ImageNet's (200 crops of each set). A teacher's
images take as many (Real-ESRGAN x4plus, 800 crops: 1.60 beside 1.60 of HR)."""

LR_PNG = 2.0
"""Bytes a pixel of LR images, which hold noise: 1.73 to 2.14 in the same sets."""

_RECORD, _RECORD_OF_VARIANT = 80, 440


@dataclass(frozen=True)
class Footprint:
    """Estimated bytes of one set, from the mean sizes `HR_PNG` and `LR_PNG`."""

    pairs: int
    tokens: int
    """Includes the LR images, which token shards hold too."""


def footprint(name: str, settings: SetSettings, architecture: Architecture) -> Footprint:
    """The bytes of the set `name` as shards of pairs and of tokens."""
    images = 1 + (settings.variants if settings.target == "both" else 0)
    hr, lr = settings.size**2, (settings.size // SCALE) ** 2
    carried = settings.variants * _mean_member(LR_PNG * lr)
    carried += _mean_member(_RECORD + _RECORD_OF_VARIANT * settings.variants)
    tokens = Workload(name, settings.samples, settings.size, None).token_bytes(architecture)
    return Footprint(
        pairs=settings.samples * (images * _mean_member(HR_PNG * hr) + carried),
        tokens=settings.samples * (tokens + carried),
    )


def _mean_member(content: float) -> int:
    """Bytes of a file in a tar: on average half a block of padding."""
    return round(_BLOCK + content + _BLOCK / 2)
