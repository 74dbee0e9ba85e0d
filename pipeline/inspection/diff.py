"""Compares two token sets: which samples' codes differ, and by how much."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from pipeline.shards.codec import decode_codes, decode_structure
from pipeline.shards.manifest import Manifest
from pipeline.shards.tar import Sample, decoded_member, read_shard
from pipeline.storage.location import Location
from tvqrap.runtime.errors import UserError


@dataclass(frozen=True)
class SampleDifference:
    """The difference of one sample that both sets hold."""

    key: str
    codes: int
    """Number of codes in the first set."""
    codes_differing: int
    """Equal to `codes` where the code maps have different shapes."""
    structure_distance: float | None
    """Largest absolute difference of the structures; None where they cannot be compared."""


@dataclass(frozen=True)
class TokenDifference:
    """The differences of two token sets."""

    common: int
    """Number of samples whose key is in both sets."""
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
    """Compares two token sets by key; their samples may be spread over different shards.

    Raises `UserError` where one is no token set or is damaged.
    """
    first_shards, second_shards = _shards(first), _shards(second)
    where = {sample.key: path for path in second_shards for sample in read_shard(path)}

    # Two sets of the same pairs have the same shards: each then fits the cache.
    @lru_cache(maxsize=2)
    def shard_of_second(path: Location) -> dict[str, Sample]:
        return {sample.key: sample for sample in read_shard(path)}

    only_first, differing = [], []
    seen: set[str] = set()
    codes = 0
    for path in first_shards:
        for sample in read_shard(path):
            if sample.key not in where:
                only_first.append(sample.key)
                continue
            seen.add(sample.key)
            other = where[sample.key]
            compared = _compare(path, sample, other, shard_of_second(other)[sample.key])
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


def _compare(
    shard: Location, first: Sample, other_shard: Location, second: Sample
) -> SampleDifference:
    both = ((shard, first), (other_shard, second))

    def structure(shard: Location, sample: Sample) -> np.ndarray | None:
        name = "structure.npy"
        return (
            decoded_member(shard, sample, name, decode_structure)
            if name in sample.members
            else None
        )

    codes, other_codes = (decoded_member(*each, "codes.npy", decode_codes) for each in both)
    same_shape = codes.shape == other_codes.shape
    differing = int((codes != other_codes).sum()) if same_shape else codes.size
    one, other = (structure(*each) for each in both)
    distance: float | None = None
    if one is None and other is None:
        distance = 0.0
    elif one is not None and other is not None and one.shape == other.shape:
        distance = float(np.abs(one.astype(np.float64) - other.astype(np.float64)).max(initial=0))
    return SampleDifference(first.key, codes.size, differing, distance)
