"""Typed settings of the photographs, the pairs and their degradation (`data:` and `pairs:`).

Nothing here has a default: params.yaml is complete. A wrong value is refused with a message that
names the key, the value found and what is allowed.
"""

import math
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

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
"""A probability or a part of a whole, in [0, 1]."""

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$", max_length=80)]
"""A name that becomes a folder: up to 80 letters, digits, `_` and `-`."""


def _absolute(storage: str) -> str:
    if "://" not in storage and not Path(storage).is_absolute():
        raise ValueError(
            f"found {storage!r}, expected an absolute path or a URL: manifests say where shards "
            "are, for other folders than this one too"
        )
    return storage


NO_TEACHER = "models/none"
"""The empty model folder of the checkout."""

_TAKEN = ("curves", "logs", "published", "quarantine", "rows", "tokenizer")
"""Folders beside the sets."""


def _free(name: str) -> str:
    if name in _TAKEN:
        raise ValueError(
            f"found a set called {name!r}, expected another name: stages keep other things in "
            "folders of that one"
        )
    return name


SetName = Annotated[Name, AfterValidator(_free)]
"""A name of a set of shards, which becomes a folder beside `rows`, `logs` and others."""

Storage = Annotated[str, StringConstraints(min_length=1), AfterValidator(_absolute)]
"""An absolute path of a folder, or a URL that fsspec knows."""

# YAML has lists, not tuples: the pair itself is converted, its items are still checked strictly.
Range = Annotated[tuple[float, float], Strict(False), AfterValidator(_ordered)]
# What is drawn is rounded to four digits, as the record of a degradation has it.
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
"""Smallest and largest kernel side in pixels; every odd size between is drawn equally often."""

Cutoff = Annotated[float, Field(gt=0, le=1)]
CutoffRange = Annotated[tuple[Cutoff, Cutoff], Strict(False), AfterValidator(_ordered)]
"""Cutoff frequencies as parts of pi radians per pixel: 1.0 lets everything through."""


def _sums_to_one(what: str, shares: dict[str, float]) -> None:
    total = sum(shares.values())
    if not math.isclose(total, 1, abs_tol=1e-6):
        found = ", ".join(f"{name} {share}" for name, share in shares.items())
        raise ValueError(f"{what}: found {found}, which make {total:g}, expected a sum of 1")


class DataSettings(Settings):
    """Where photographs come from and which of them are used."""

    photos: str
    """Folder of photographs, searched recursively."""
    min_side: PositiveInt
    """Photographs with a shorter side than this are not used."""
    max_pixels: PositiveInt
    """Photographs with more pixels than this are not decoded."""
    max_skipped_fraction: Share
    """Largest part of the photographs that may be unusable before the stage fails."""


class SplitSettings(Settings):
    """Parts of the photographs in each split; they sum to 1."""

    train: Share
    val: Share
    test: Share

    @model_validator(mode="after")
    def _whole(self) -> Self:
        _sums_to_one("splits", self.model_dump())
        return self


class SincSettings(Settings):
    """Sinc (ringing) kernels drawn in place of a blur kernel."""

    prob: Share
    large_from: PositiveInt
    """Kernels of at least this size draw from `cutoff_large`, smaller ones from `cutoff_small`."""
    cutoff_small: CutoffRange
    cutoff_large: CutoffRange


class BlurSettings(Settings):
    """One blur step."""

    prob: Share
    """How often the step happens at all."""
    sizes: KernelSizes
    kinds: Annotated[dict[BlurKind, Share], Field(min_length=1)]
    """How often each kind of Gaussian-like kernel is drawn; kinds left out never are."""
    sigma: PositiveRange
    """Standard deviation along each axis, in pixels."""
    rotation: Range
    """Angle of anisotropic kernels, in parts of pi."""
    beta_generalized: PositiveRange
    beta_plateau: PositiveRange
    low_beta_prob: Share
    """How often a beta is drawn from below 1; otherwise it is drawn from above 1."""
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
    """One random resize: up draws from [1, highest], down from [lowest, 1], keep is 1."""

    up: Share
    down: Share
    keep: Share
    scale: PositiveRange
    filters: Annotated[tuple[ResizeFilter, ...], Strict(False), Field(min_length=1)]
    """Drawn equally often; none of them is antialiased."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _sums_to_one("up, down, keep", {"up": self.up, "down": self.down, "keep": self.keep})
        low, high = self.scale
        if not low <= 1 <= high:
            raise ValueError(f"scale: found [{low}, {high}], expected a range that holds 1")
        return self


class NoiseSettings(Settings):
    """One noise step: Gaussian or, otherwise, Poisson."""

    gaussian_prob: Share
    sigma: PositiveRange
    """Standard deviation of Gaussian noise in 8-bit levels (1/255)."""
    poisson_scale: PositiveRange
    """Factor on Poisson noise."""
    gray_prob: Share
    """How often the three channels get the same noise."""


class FirstOrderSettings(Settings):
    """The first round: blur, resize (relative to HR), noise, JPEG."""

    blur: BlurSettings
    resize: ResizeSettings
    noise: NoiseSettings
    jpeg: QualityRange


class SecondOrderSettings(Settings):
    """The second round: blur, resize (relative to LR), noise."""

    prob: Share
    """How often the second round happens."""
    blur: BlurSettings
    resize: ResizeSettings
    noise: NoiseSettings


class FinalSettings(Settings):
    """The end: resize to LR with a sinc filter, and JPEG, in either order."""

    sinc_prob: Share
    sizes: KernelSizes
    cutoff: CutoffRange
    filters: Annotated[tuple[ResizeFilter, ...], Strict(False), Field(min_length=1)]
    jpeg: QualityRange
    jpeg_last_prob: Share
    """How often JPEG comes after resizing to LR rather than before."""


class SharpenSettings(Settings):
    """Unsharp masking of the HR image before it is degraded."""

    weight: PositiveFloat
    size: KernelSize
    sigma: PositiveFloat
    threshold: Annotated[float, Field(ge=0, le=255)]
    """Differences from the blurred image up to this many 8-bit levels are left alone."""


class DegradationSettings(Settings):
    """Second-order degradation of an HR crop to its LR image."""

    sharpen: SharpenSettings | None
    first: FirstOrderSettings
    second: SecondOrderSettings | None
    """None: there is no second round."""
    final: FinalSettings


class SetSettings(Settings):
    """One named set of pairs."""

    split: SplitName
    size: Annotated[int, Field(ge=8 * SCALE, multiple_of=SCALE)]
    """Side of the square HR crop in pixels."""
    crop_mode: CropMode
    count: PositiveInt
    """Number of HR crops that are cut; with flips both, the set holds twice as many samples."""
    variants: PositiveInt
    """LR images per HR crop."""
    flips: Flips
    """random: each crop is mirrored with probability 1/2; both: each crop and its mirror image are
    samples of their own."""
    channel_shuffle_prob: Share
    """How often a crop's red, green and blue change places (the RGB permutation of CutBlur, CVPR
    2020): photographs have little green against magenta, so that a short training never learns
    it."""
    degradation: Annotated[
        Annotated[Name, Tag("str")]
        | Annotated[dict[Name, Share], Field(min_length=1), Tag("dict")],
        Discriminator(lambda given: "dict" if isinstance(given, dict) else "str"),
    ]
    """A preset, or a mixture: the share of each preset among the LR images."""
    target: Target
    """photo: HR is the crop. teacher: HR is what the teacher makes of the LR image. both: HR is the
    crop, and the teacher's image of each LR image lies beside it."""

    @property
    def samples(self) -> int:
        """HR crops in the set."""
        return self.count * (2 if self.flips == "both" else 1)

    @property
    def presets(self) -> dict[str, float]:
        """Share of each degradation preset."""
        given = self.degradation
        return {given: 1.0} if isinstance(given, str) else dict(given)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _sums_to_one("degradation", self.presets)
        if self.target == "teacher" and self.variants != 1:
            raise ValueError(
                f"variants: found {self.variants}, expected 1 with target teacher: HR is then what "
                "the teacher makes of the one LR image"
            )
        return self


class PairsSettings(Settings):
    """Named sets of pairs, how photographs are split among them and how they are degraded."""

    seed: NonNegativeInt
    split_seed: NonNegativeInt
    splits: SplitSettings
    shard_size: PositiveInt
    """HR crops in one shard."""
    sets: Annotated[dict[Name, SetSettings], Field(min_length=1)]
    degradations: Annotated[dict[Name, DegradationSettings], Field(min_length=1)]
    storage: Storage | None
    """Folder or URL for the shards; none: beside the manifest, in the checkout."""
    teacher: Annotated[str, StringConstraints(min_length=1)]
    """An upscaler whose pictures serve as targets: a model folder, or a file for spandrel."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name, chosen in self.sets.items():
            try:
                _free(name)
            except ValueError as error:
                raise ValueError(f"sets.{name}: {error}") from None
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
    """How tokens are extracted; device, batch and threads can change codes and are recorded."""

    device: Literal["cpu", "cuda"]
    batch_size: PositiveInt
    """HR crops tokenized together."""
    threads: PositiveInt
    """Arithmetic threads (CPUs) of one worker."""
    gpus: PositiveFloat
    """GPUs of one Ray actor where the device is cuda; a part of one is shared by several actors."""
    storage: Storage | None
    """Folder or URL for the shards; none: beside the manifest, in the checkout."""

    @model_validator(mode="after")
    def _whole_gpus(self) -> Self:
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise ValueError(
                f"gpus: found {self.gpus:g}, expected a part of one GPU (up to 1) or a whole number"
            )
        return self
