"""A set of shards opened for training: one folder, or several that hold the same keys."""

from collections import Counter
from dataclasses import dataclass

from pipeline.shards.manifest import Manifest
from pipeline.shards.tar import Sample, read_shard
from pipeline.storage.location import Location
from tvqrap.runtime.errors import UserError


@dataclass(frozen=True)
class Wanted:
    """Which members of a sample a stage reads."""

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
    """Where the shards are, on disk or in a store."""
    shards: tuple[str, ...]
    counts: tuple[int, ...]
    """Samples in each shard that are in all folders."""
    variants: int
    dropped: frozenset[str] = frozenset()
    """Keys of samples that not all folders have."""

    @property
    def samples(self) -> int:
        """HR crops in the set."""
        return sum(self.counts)

    @classmethod
    def open(cls, *folders: Location) -> "ShardedDataset":
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
        counts = tuple(planned[name] - fewer[name] for name in names)
        if not first.samples:
            raise UserError(f"{folders[0]}: holds no samples")
        variants = int(first.params["settings"]["variants"])
        homes = tuple(
            manifest.home(folder) for folder, manifest in zip(folders, manifests, strict=True)
        )
        return cls(homes, names, counts, variants, frozenset(dropped))

    def read(self, shard: int) -> list[Sample]:
        """Samples of one shard, members of all folders together, counts checked."""
        name = self.shards[shard]
        merged: list[Sample] | None = None
        for folder in self.folders:
            samples = [each for each in read_shard(folder / name) if each.key not in self.dropped]
            if len(samples) != self.counts[shard]:
                raise UserError(
                    f"{folder / name}: {len(samples)} samples, its manifest says "
                    f"{self.counts[shard]}"
                )
            if merged is None:
                merged = samples
                continue
            if [sample.key for sample in samples] != [sample.key for sample in merged]:
                raise UserError(f"{folder / name}: its keys differ from those of {merged[0].key}…")
            merged = [
                Sample(ours.key, {**theirs.members, **ours.members})
                for ours, theirs in zip(merged, samples, strict=True)
            ]
        assert merged is not None
        return merged


def _dropped(manifest: Manifest) -> dict[str, str]:
    """Keys that a manifest says were dropped, and the shard each would be in."""
    return {lost["key"]: lost["shard"] for lost in manifest.extra.get("dropped", ())}


def _planned(manifest: Manifest) -> dict[str, int]:
    """Samples in each shard, dropped ones included."""
    fewer = Counter(_dropped(manifest).values())
    return {row.name: row.samples + fewer[row.name] for row in manifest.shards}
