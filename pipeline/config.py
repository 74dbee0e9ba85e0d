"""Typed settings of the photographs, the pairs and their degradation (`data:` and `pairs:`).

Nothing here has a default: params.yaml is complete. A wrong value is refused with a message that
names the key, the value found and the values allowed.
"""

import math
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar, get_args

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Strict,
    StringConstraints,
    Tag,
    model_validator,
)

from tvqrap.architecture import SCALE
from tvqrap.config.base import Settings

SplitName = Literal["train", "val", "test"]
CropMode = Literal["full", "square", "zoom", "centre"]
Flips = Literal["none", "random", "both"]
Target = Literal["photo", "teacher", "both"]
TeacherPrecision = Literal["float32", "bfloat16"]
BlurKind = Literal[
    "iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso"
]
ResizeFilter = Literal["area", "bilinear", "bicubic"]

Number = TypeVar("Number", int, float)


def _ordered(pair: tuple[Number, Number]) -> tuple[Number, Number]:
    if pair[0] > pair[1]:
        raise ValueError(f"found {list(pair)}, expected [lowest, highest]")
    return pair


Share = Annotated[float, Field(ge=0, le=1)]
"""A probability or a fraction, in [0, 1]."""

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$", max_length=80)]
"""A name that becomes a folder: up to 80 letters, digits, `_` and `-`."""


def _absolute(storage: str) -> str:
    if "://" not in storage and not Path(storage).is_absolute():
        # Manifests in other folders name it too.
        raise ValueError(f"found {storage!r}, expected an absolute path or a URL")
    return storage


NO_TEACHER = "models/none"
"""The empty model folder of the checkout."""

_TAKEN = ("curves", "logs", "published", "quarantine", "rows", "tokenizer")
"""Folders beside the sets."""


def _free(name: str) -> str:
    if name in _TAKEN:
        raise ValueError(f"found a set called {name!r}, expected another name: stages use that one")
    return name


SetName = Annotated[Name, AfterValidator(_free)]
"""A name of a set of shards, which becomes a folder beside `rows`, `logs` and others."""

Storage = Annotated[str, StringConstraints(min_length=1), AfterValidator(_absolute)]
"""An absolute path of a folder, or a URL that fsspec knows."""

# YAML has lists and no tuples: the pair itself is converted, its items are checked strictly.
Range = Annotated[tuple[float, float], Strict(False), AfterValidator(_ordered)]
# Drawn values are rounded to four digits, as the record of a degradation has them.
Drawn = Annotated[float, Field(ge=1e-4)]
PositiveRange = Annotated[tuple[Drawn, Drawn], Strict(False), AfterValidator(_ordered)]
Quality = Annotated[int, Field(ge=1, le=100)]
QualityRange = Annotated[tuple[Quality, Quality], Strict(False), AfterValidator(_ordered)]


def _odd(size: int) -> int:
    if size < 3 or size % 2 == 0:
        raise ValueError(f"found {size}, expected an odd number of at least 3")
    return size


KernelSize = Annotated[int, AfterValidator(_odd)]
KernelSizes = Annotated[tuple[KernelSize, KernelSize], Strict(False), AfterValidator(_ordered)]
"""Smallest and largest kernel side in pixels; odd sizes between are equally probable."""

Cutoff = Annotated[float, Field(ge=1e-4, le=1)]  # as `Drawn`: a cutoff of 0 is no filter
CutoffRange = Annotated[tuple[Cutoff, Cutoff], Strict(False), AfterValidator(_ordered)]
"""Range of cutoff frequencies in parts of pi radians per pixel; 1.0 passes all frequencies."""


def _sums_to_one(key: str, shares: dict[str, float]) -> None:
    total = sum(shares.values())
    if not math.isclose(total, 1, abs_tol=1e-6):
        found = ", ".join(f"{name} {share}" for name, share in shares.items())
        raise ValueError(f"{key}: found {found}, which make {total:g}, expected a sum of 1")


class DataSettings(Settings):
    """The photographs, and the conditions for using one."""

    photos: str
    """Folder of photographs, tar archive, LMDB, or YAML file of sources (docs/photographs.md)."""
    licences: str | None
    """CSV or Parquet file with columns photo (or key), licence, source, author; none: unknown."""
    min_side: PositiveInt
    """Smallest shorter side of a photograph that is used, in pixels."""
    max_pixels: PositiveInt
    """Largest number of pixels of a photograph that is decoded."""
    max_skipped_fraction: Share
    """Largest fraction of unusable photographs with which the stage goes on."""


class SplitSettings(Settings):
    """Fraction of the photographs in each split; they sum to 1."""

    train: Share
    """Fraction for training."""
    val: Share
    """Fraction for validation."""
    test: Share
    """Fraction for the final scores."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        _sums_to_one("splits", self.model_dump())
        return self


class SincSettings(Settings):
    """Sinc kernels, which make edges ring, drawn in place of a blur kernel."""

    prob: Share
    """Probability of a sinc kernel."""
    large_from: PositiveInt
    """Smallest side, in pixels, of the kernels that draw from `cutoff_large`."""
    cutoff_small: CutoffRange
    """Range of the cutoff frequency of smaller kernels, in parts of pi radians per pixel."""
    cutoff_large: CutoffRange
    """Range of the cutoff frequency of larger kernels, in parts of pi radians per pixel."""


def _in_order(kinds: dict[BlurKind, float]) -> dict[BlurKind, float]:
    """Kinds in one order, whatever their order in the file: what is drawn depends on it."""
    return {kind: kinds[kind] for kind in get_args(BlurKind) if kind in kinds}


class BlurSettings(Settings):
    """One blur step."""

    prob: Share
    """Probability of the step."""
    sizes: KernelSizes
    """Smallest and largest kernel side in pixels; odd sizes between are equally probable."""
    kinds: Annotated[dict[BlurKind, Share], Field(min_length=1), AfterValidator(_in_order)]
    """Probability of each kind of Gaussian-like kernel, 0 for kinds that are left out."""
    sigma: PositiveRange
    """Range of the standard deviation along each axis, in pixels."""
    rotation: Range
    """Range of the angle of anisotropic kernels, in parts of pi."""
    beta_generalized: PositiveRange
    """Range of the exponent of generalized Gaussian kernels; 1 is the Gaussian."""
    beta_plateau: PositiveRange
    """Range of the exponent of plateau-shaped kernels."""
    low_beta_prob: Share
    """Probability of drawing a beta below 1; otherwise it is above 1."""
    sinc: SincSettings

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _sums_to_one("kinds", {str(kind): share for kind, share in self.kinds.items()})
        for key in ("beta_generalized", "beta_plateau"):
            low, high = getattr(self, key)
            if not low <= 1 <= high:
                raise ValueError(f"{key}: found [{low}, {high}], expected a range that holds 1")
        return self


class ResizeSettings(Settings):
    """One random resize; `up`, `down` and `keep` sum to 1."""

    up: Share
    """Probability of a scale from [1, highest]."""
    down: Share
    """Probability of a scale from [lowest, 1]."""
    keep: Share
    """Probability of the scale 1."""
    scale: PositiveRange
    """Lowest and highest scale: new over old side in the first round, over LR in the second."""
    filters: Annotated[tuple[ResizeFilter, ...], Strict(False), Field(min_length=1)]
    """Filters, equally probable, without antialiasing; area is adaptive average pooling."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _sums_to_one("up, down, keep", {"up": self.up, "down": self.down, "keep": self.keep})
        low, high = self.scale
        if not low <= 1 <= high:
            raise ValueError(f"scale: found [{low}, {high}], expected a range that holds 1")
        return self


class NoiseSettings(Settings):
    """One noise step: Gaussian or Poisson noise."""

    gaussian_prob: Share
    """Probability of Gaussian noise; otherwise the noise is Poisson."""
    sigma: PositiveRange
    """Range of the standard deviation of Gaussian noise, in 8-bit levels."""
    poisson_scale: PositiveRange
    """Range of the factor on Poisson noise."""
    gray_prob: Share
    """Probability of the same noise on all channels."""


class FirstOrderSettings(Settings):
    """The first round: blur, resize (relative to HR), noise, JPEG."""

    blur: BlurSettings
    resize: ResizeSettings
    noise: NoiseSettings
    jpeg: QualityRange
    """Range of the JPEG quality; chroma is subsampled 4:2:0."""


class SecondOrderSettings(Settings):
    """The second round: blur, resize (relative to LR), noise."""

    prob: Share
    """Probability of the second round."""
    blur: BlurSettings
    resize: ResizeSettings
    noise: NoiseSettings


class FinalSettings(Settings):
    """The last steps: resize to LR with a sinc filter, and JPEG, in either order."""

    sinc_prob: Share
    """Probability of the sinc filter after the resize."""
    sizes: KernelSizes
    """Smallest and largest side of the sinc kernel in pixels."""
    cutoff: CutoffRange
    """Range of the cutoff frequency of the sinc filter, in parts of pi radians per pixel."""
    filters: Annotated[tuple[ResizeFilter, ...], Strict(False), Field(min_length=1)]
    """Filters of the resize to LR, equally probable, without antialiasing."""
    jpeg: QualityRange
    """Range of the JPEG quality; chroma is subsampled 4:2:0."""
    jpeg_last_prob: Share
    """Probability of JPEG after the resize to LR; otherwise it comes before."""


class SharpenSettings(Settings):
    """Unsharp masking of the HR image before it is degraded."""

    weight: PositiveFloat
    """Factor on the difference from the blurred image."""
    size: KernelSize
    """Side of the blur kernel in pixels."""
    sigma: PositiveFloat
    """Standard deviation of the blur kernel in pixels."""
    threshold: Annotated[float, Field(ge=0, le=255)]
    """Largest difference from the blurred image, in 8-bit levels, that is not sharpened."""


class DegradationSettings(Settings):
    """Second-order degradation of an HR crop to its LR image."""

    sharpen: SharpenSettings | None
    """Unsharp masking of HR before it is degraded; none: HR is degraded as it is."""
    first: FirstOrderSettings
    second: SecondOrderSettings | None
    """The second round; none: there is one round."""
    final: FinalSettings


class SetSettings(Settings):
    """One named set of pairs."""

    split: SplitName
    """Split of the photographs that crops are cut from."""
    size: Annotated[int, Field(ge=8 * SCALE, multiple_of=SCALE)]
    """Side of the square HR crop in pixels."""
    crop_mode: CropMode
    """Position and scale of crops, see `pipeline/pairs/crops.py`."""
    count: PositiveInt
    """Number of HR crops that are cut; with flips both, the set holds twice as many samples."""
    variants: PositiveInt
    """LR images of each HR crop."""
    flips: Flips
    """none; random: each crop is mirrored with probability 1/2; both: each crop and its mirror
    image are samples of their own."""
    channel_shuffle_prob: Share
    """Probability of permuting the RGB channels of a crop (CutBlur, Yoo et al., CVPR 2020), for
    colours that photographs rarely have."""
    degradation: Annotated[
        Annotated[Name, Tag("str")]
        | Annotated[dict[Name, Share], Field(min_length=1), Tag("dict")],
        Discriminator(lambda given: "dict" if isinstance(given, dict) else "str"),
    ]
    """A degradation preset, or a mixture: the probability of each preset."""
    target: Target
    """HR of the samples: the crop, the teacher's output for its one LR image, or both."""

    @property
    def samples(self) -> int:
        """HR crops in the set."""
        return self.count * (2 if self.flips == "both" else 1)

    @property
    def presets(self) -> dict[str, float]:
        """Share of each degradation preset, by name: what is drawn depends on the order."""
        given = self.degradation
        return {given: 1.0} if isinstance(given, str) else dict(sorted(given.items()))

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _sums_to_one("degradation", self.presets)
        if self.target == "teacher" and self.variants != 1:
            raise ValueError(
                f"variants: found {self.variants}, expected 1 with target teacher: HR is then the "
                "teacher's output for the one LR image"
            )
        return self


class PairsSettings(Settings):
    """Named sets of pairs, the split of the photographs and the degradations."""

    seed: NonNegativeInt
    """Seed of crops and degradations."""
    split_seed: NonNegativeInt
    """Seed of the split of the photographs."""
    splits: SplitSettings
    shard_size: PositiveInt
    """HR crops in one shard."""
    sets: Annotated[dict[SetName, SetSettings], Field(min_length=1)]
    """The sets, by name."""
    degradations: Annotated[dict[Name, DegradationSettings], Field(min_length=1)]
    """The degradation presets, by name."""
    storage: Storage | None
    """Folder or URL for the shards; none: the shards lie in the checkout, beside the manifest."""
    teacher: Annotated[str, StringConstraints(min_length=1)]
    """Upscaler whose outputs serve as targets: a model folder, or a file that spandrel reads."""
    teacher_precision: TeacherPrecision
    """Number format of the teacher; `bfloat16` is autocast."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name, chosen in self.sets.items():
            for preset in chosen.presets:
                if preset not in self.degradations:
                    raise ValueError(
                        f"sets.{name}.degradation: found {preset!r}, expected one of "
                        + ", ".join(self.degradations)
                    )
            if chosen.target != "photo" and self.teacher == NO_TEACHER:
                raise ValueError(
                    f"sets.{name}.target: found {chosen.target!r} with teacher: {NO_TEACHER}, "
                    "expected photo, or a teacher"
                )
            if getattr(self.splits, chosen.split) == 0:
                raise ValueError(
                    f"sets.{name}.split: found {chosen.split!r}, whose share splits.{chosen.split} "
                    "is 0, expected a split that has photographs"
                )
        return self


class TokensSettings(Settings):
    """The extraction of tokens. Device, batch and threads can change codes and are recorded."""

    device: Literal["cpu", "cuda"]
    """Device of the tokenizer."""
    batch_size: PositiveInt
    """HR crops in a batch."""
    threads: PositiveInt
    """Arithmetic threads (CPUs) of one worker."""
    gpus: PositiveFloat
    """GPUs of one Ray actor with device cuda; below 1, several actors share one."""
    storage: Storage | None
    """Folder or URL for the shards; none: the shards lie in the checkout, beside the manifest."""

    @model_validator(mode="after")
    def _whole_gpus(self) -> Self:
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise ValueError(
                f"gpus: found {self.gpus:g}, expected a part of one GPU (up to 1) or a whole number"
            )
        return self
