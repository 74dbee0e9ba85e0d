"""A set of shards opened for training: one folder, or several that hold the same keys."""

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from pipeline.shards.index import SampleIndex
from pipeline.shards.manifest import Manifest
from pipeline.shards.tar import Sample, read_shard
from pipeline.storage.location import Location, Url
from pipeline.storage.shard_cache import CachedUrl, ShardCache
from tvqrap.runtime.errors import UserError


@dataclass(frozen=True)
class MemberSelection:
    """Which members of a sample are decoded for training."""

    hr: bool = False
    lr: bool = False
    tokens: bool = False
    teacher: bool = False
    """The teacher's image of the LR variant."""


@dataclass(frozen=True)
class ShardedDataset:
    """Shards of one set: one folder, or several that hold the same keys (pairs beside tokens).

    Samples that the extraction of tokens dropped are left out of the pairs too.
    """

    folders: tuple[Location, ...]
    """Folders of the shards, on disk or in a store."""
    manifests: tuple[Location, ...]
    """Folders of the manifests and indexes."""
    shards: tuple[str, ...]
    """File names of the shards, the same in all folders."""
    hashes: tuple[tuple[str, ...], ...]
    """For each folder, the SHA-256 (hex) of each of its shards."""
    counts: tuple[int, ...]
    """Samples in each shard that are in all folders."""
    variants: int
    """LR images of each sample."""
    codebook: int | None = None
    """Entries of the codebook that the codes refer to; none where no folder holds tokens."""
    dropped: frozenset[str] = frozenset()
    """Keys of samples that not all folders have."""
    cache: ShardCache | None = None
    """Cache of stores' shards on this machine; none: each read fetches them."""

    @property
    def samples(self) -> int:
        """Samples in the set."""
        return sum(self.counts)

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, number: int) -> Sample:
        """A sample by its place in the set, its members still encoded; nothing else is read.

        Raises IndexError, and `UserError` for a damaged index or shard, whose hash is not checked.
        """
        place = range(self.samples)[number]
        shard = bisect_right(self._ends, place)
        place -= self._ends[shard] - self.counts[shard]
        found: list[Sample] = []
        for index in self._indexes:
            start, keys = index.keys_of(shard)
            kept = [at for at, key in enumerate(keys, start) if key not in self.dropped]
            found.append(index[kept[place]])
        if len({sample.key for sample in found}) > 1:
            raise UserError(f"{self.manifests[1]}: its keys are not those of {self.manifests[0]}")
        members = {
            name: each for sample in reversed(found) for name, each in sample.members.items()
        }
        return Sample(found[0].key, members)

    @cached_property
    def _indexes(self) -> tuple[SampleIndex, ...]:
        return tuple(SampleIndex.open(folder) for folder in self.manifests)

    @cached_property
    def _ends(self) -> list[int]:
        """Number of the samples up to the end of each shard."""
        return list(accumulate(self.counts))

    @classmethod
    def open(cls, *folders: Location, cache: ShardCache | None = None) -> "ShardedDataset":
        """Reads the manifests. Raises `UserError` where they do not list the same shards."""
        manifests = [Manifest.load(folder) for folder in folders]
        first = manifests[0]
        names = tuple(row.name for row in first.shards)
        planned = _planned(first)
        for folder, other in zip(folders[1:], manifests[1:], strict=True):
            if names != tuple(row.name for row in other.shards) or planned != _planned(other):
                raise UserError(
                    f"{folder}: {other.samples} samples in {len(other.shards)} shards, expected "
                    f"those of {folders[0]} ({first.samples} in {len(first.shards)}): extract the "
                    "tokens again"
                )
        dropped = {key: shard for each in manifests for key, shard in _dropped(each).items()}
        fewer = Counter(dropped.values())
        if not first.samples:
            raise UserError(f"{folders[0]}: holds no samples")
        codebooks = [each.codebook for each in manifests if each.kind == "tokens"]
        return cls(
            folders=tuple(
                each.home(folder) for folder, each in zip(folders, manifests, strict=True)
            ),
            manifests=folders,
            shards=names,
            hashes=tuple(tuple(row.sha256 for row in each.shards) for each in manifests),
            counts=tuple(planned[name] - fewer[name] for name in names),
            variants=first.variants,
            codebook=min(codebooks, default=None),
            dropped=frozenset(dropped),
            cache=cache,
        )

    def read(self, shard: int, *, check_hash: bool = True) -> list[Sample]:
        """Samples of one shard, the members of all folders together.

        Raises `UserError` that names the file where the keys or their number are not those of the
        manifest, or, with `check_hash`, where its SHA-256 is another.
        """
        name = self.shards[shard]
        merged: list[Sample] | None = None
        for folder, hashes in zip(self.folders, self.hashes, strict=True):
            place: Location = folder / name
            if self.cache is not None and isinstance(place, Url):
                place = CachedUrl(place.text, self.cache, hashes[shard])
            stored = read_shard(place, hashes[shard] if check_hash else None)
            samples = [sample for sample in stored if sample.key not in self.dropped]
            if len(samples) != self.counts[shard]:
                raise UserError(
                    f"{folder / name}: {len(samples)} samples, its manifest says "
                    f"{self.counts[shard]}"
                )
            if merged is None:
                merged = samples
                continue
            if [sample.key for sample in samples] != [sample.key for sample in merged]:
                raise UserError(
                    f"{folder / name}: its keys are not those of {self.folders[0] / name}"
                )
            merged = [
                Sample(first.key, {**other.members, **first.members})
                for first, other in zip(merged, samples, strict=True)
            ]
        assert merged is not None
        return merged


def _dropped(manifest: Manifest) -> dict[str, str]:
    """Keys that a manifest says were dropped, and the shard each would be in."""
    return {row["key"]: row["shard"] for row in manifest.extra.get("dropped", ())}


def _planned(manifest: Manifest) -> dict[str, int]:
    """Samples in each shard, dropped ones included."""
    fewer = Counter(_dropped(manifest).values())
    return {row.name: row.samples + fewer[row.name] for row in manifest.shards}
