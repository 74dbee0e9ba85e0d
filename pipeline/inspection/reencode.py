"""Stored tokens against the tokens that their tokenizer gives now."""

from dataclasses import dataclass

import numpy as np

from pipeline.inspection.sampling import TokenSample
from pipeline.shards.codec import decode_array
from pipeline.shards.manifest import Manifest
from pipeline.storage.location import Location
from tvqrap.runtime.hardware import Machine


def other_sources(tokens: Location, pairs: Location) -> list[str]:
    """Shards of tokens that were not made from the pair shards of their names, one line each.

    Those that do not say what they were made from count for nothing.
    """
    sources = {row.name: row.sha256 for row in Manifest.load(pairs).shards}
    manifest = Manifest.load(tokens)
    home = manifest.home(tokens)
    return [
        f"{home / row.name}: made from a pair shard {row.source[:12]}, but {pairs} has "
        f"{sources.get(row.name, 'none')[:12]}"
        for row in manifest.shards
        if row.source is not None and row.source != sources.get(row.name)
    ]


def another_machine(sample: TokenSample) -> str | None:
    """On which machine tokens were made and on which they are encoded anew, where it is another.

    None where they are of one kind, and of tokens that do not say it.
    """
    made = sample.manifest.extra.get("machine")
    here = sample.encoder.machine
    if made is None or Machine(**made) == here:
        return None
    return f"made on {Machine(**made)}, here is {here}"


@dataclass(frozen=True)
class Reencoded:
    """One sample, stored and encoded anew."""

    shard: str
    key: str
    codes: int
    codes_differing: int
    structure_differing: int
    """Values of the structure that differ by more than one step of float16."""

    @property
    def problem(self) -> str | None:
        """What is wrong in one line; none if nothing is."""
        if self.codes_differing:
            return (
                f"{self.shard}: {self.key}: {self.codes_differing} of {self.codes} codes differ "
                "from those of its HR crop"
            )
        if self.structure_differing:
            return (
                f"{self.shard}: {self.key}: {self.structure_differing} values of the structure "
                "differ from those of its HR crop by more than float16"
            )
        return None


def reencode(sample: TokenSample) -> list[Reencoded]:
    """Encodes the drawn samples and compares: codes exactly, structure within float16."""
    found = []
    for batch in sample.batches():
        structures, codes = sample.encoder(batch.crops)
        for index, stored in batch.drawn.items():
            kept = decode_array(stored.members["codes.npy"])
            same_shape = kept.shape == codes[index].shape
            differing = int((kept != codes[index]).sum()) if same_shape else kept.size
            outside = 0
            if structures is not None:
                half = decode_array(stored.members["structure.npy"])
                step = np.spacing(np.abs(half)).astype(np.float32)
                apart = np.abs(half.astype(np.float32) - structures[index])
                outside = int((apart > step).sum())
            found.append(Reencoded(batch.shard, stored.key, kept.size, differing, outside))
    return found
