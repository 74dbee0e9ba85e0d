"""Two token sets compared: which samples' codes differ, and by how much."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from pipeline.shards.codec import decode_array
from pipeline.shards.manifest import Manifest
from pipeline.shards.tar import Sample, read_shard
from pipeline.storage.location import Location
from tvqrap.runtime.errors import UserError


@dataclass(frozen=True)
class SampleDifference:
    """One sample that is in both sets and not equal."""

    key: str
    codes: int
    codes_differing: int
    """All of them where the code maps have different shapes."""
    structure_distance: float | None
    """Largest difference of the structures; none where they cannot be compared."""


@dataclass(frozen=True)
class TokenDifference:
    """How two token sets differ."""

    common: int
    """Samples with the same key in both."""
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    codes: int
    """Codes of the common samples."""
    differing: tuple[SampleDifference, ...]

    @property
    def equal(self) -> bool:
        """Whether both hold the same samples with the same tokens."""
        return not (self.only_first or self.only_second or self.differing)

    @property
    def codes_differing(self) -> int:
        """Codes of the common samples that differ."""
        return sum(sample.codes_differing for sample in self.differing)


def token_difference(first: Location, second: Location) -> TokenDifference:
    """Compares two token sets by key, however their samples are spread over shards.

    Raises `UserError` where one is no token set or damaged.
    """
    ours, theirs = _shards(first), _shards(second)
    where = {sample.key: path for path in theirs for sample in read_shard(path)}

    # Two sets of the same pairs have the same shards: each is then read once.
    @lru_cache(maxsize=2)
    def shard_of_second(path: Location) -> dict[str, Sample]:
        return {sample.key: sample for sample in read_shard(path)}

    only_first, differing = [], []
    seen: set[str] = set()
    codes = 0
    for path in ours:
        for sample in read_shard(path):
            if sample.key not in where:
                only_first.append(sample.key)
                continue
            seen.add(sample.key)
            compared = _compare(sample, shard_of_second(where[sample.key])[sample.key])
            codes += compared.codes
            if compared.codes_differing or compared.structure_distance != 0:
                differing.append(compared)
    only_second = tuple(key for key in where if key not in seen)
    return TokenDifference(len(seen), tuple(only_first), only_second, codes, tuple(differing))


def _shards(folder: Location) -> list[Location]:
    manifest = Manifest.load(folder)
    if manifest.kind != "tokens":
        raise UserError(f"{folder}: holds {manifest.kind}, expected tokens")
    home = manifest.home(folder)
    return [home / row.name for row in manifest.shards]


def _compare(first: Sample, second: Sample) -> SampleDifference:
    def member(sample: Sample, name: str) -> np.ndarray | None:
        return decode_array(sample.members[name]) if name in sample.members else None

    ours, theirs = (member(sample, "codes.npy") for sample in (first, second))
    if ours is None or theirs is None:
        raise UserError(f"sample {first.key}: it has no codes")
    same_shape = ours.shape == theirs.shape
    differing = int((ours != theirs).sum()) if same_shape else ours.size
    one, other = (member(sample, "structure.npy") for sample in (first, second))
    distance: float | None = None
    if one is None and other is None:
        distance = 0.0
    elif one is not None and other is not None and one.shape == other.shape:
        distance = float(np.abs(one.astype(np.float64) - other.astype(np.float64)).max(initial=0))
    return SampleDifference(first.key, ours.size, differing, distance)
