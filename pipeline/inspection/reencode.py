"""Compares stored tokens with those that their tokenizer gives now."""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from pipeline.inspection.sampling import TokenSample
from pipeline.shards.codec import decode_codes, decode_structure
from pipeline.shards.manifest import Manifest
from pipeline.shards.tar import decoded_member
from pipeline.storage.location import Location
from tvqrap.runtime.errors import UserError
from tvqrap.runtime.hardware import Machine

_MACHINE = TypeAdapter(Machine)


def other_sources(tokens: Location, pairs: Location) -> list[str]:
    """Token shards that were not made from the pair shards of their names, one line each.

    Shards that do not record their source are left out.
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
    """A line that names both machines where the tokens were made on another kind than this one.

    None where the kinds are equal, or where the manifest records no machine.
    """
    made = sample.manifest.extra.get("machine")
    here = sample.encoder.machine
    if made is None or made == asdict(here):
        return None
    try:
        return f"made on {_MACHINE.validate_python(made)}, here is {here}"
    except ValidationError:
        raise UserError(
            f"{sample.tokens}: the manifest says that {made!r} made the tokens, expected device "
            "and torch of a machine"
        ) from None


@dataclass(frozen=True)
class Reencoded:
    """The comparison of one stored sample with its crop encoded again."""

    shard: str
    key: str
    codes: int
    codes_differing: int
    structure_differing: int
    """Number of structure values that differ by more than one step of float16."""

    @property
    def problem(self) -> str | None:
        """The difference in one line; None where there is none."""
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


def _outside(half: NDArray[np.float16], structure: NDArray[np.float32]) -> int:
    """Number of values that differ by more than a step of float16; all where shapes differ."""
    if half.shape != structure.shape:
        return structure.size
    step = np.spacing(np.abs(half)).astype(np.float32)
    return int((~(np.abs(half.astype(np.float32) - structure) <= step)).sum())


def reencode(sample: TokenSample) -> list[Reencoded]:
    """Encodes the drawn samples again; compares codes exactly and structures within float16."""
    found = []
    for batch in sample.batches():
        structures, codes = sample.encoder(batch.crops)
        for index, stored in batch.drawn.items():
            shard = sample.tokens / batch.shard
            kept = decoded_member(shard, stored, "codes.npy", decode_codes)
            same_shape = kept.shape == codes[index].shape
            differing = int((kept != codes[index]).sum()) if same_shape else kept.size
            outside = 0
            if structures is not None:
                half = decoded_member(shard, stored, "structure.npy", decode_structure)
                outside = _outside(half, structures[index])
            found.append(Reencoded(batch.shard, stored.key, kept.size, differing, outside))
    return found
