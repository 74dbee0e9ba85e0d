"""Batches for training, in an order planned from (seed, epoch) and resumable at any step.

The stream of samples is endless: epoch after epoch, each in its own order, and each sample once an
epoch. Within an epoch the shards are shuffled and read in blocks, and the samples are shuffled
within each block, so that storage sees whole files in sequence. Any step of any batch size maps to
a position in the stream. Workers that train together share each batch: together they see the
batches that one worker alone would see. Each reads every shard and decodes its own samples.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
import torch

from pipeline.executor.prefetch import in_threads, prefetch
from pipeline.loading.dataset import MemberSelection, ShardedDataset
from pipeline.loading.order import epoch_order, variant_of
from pipeline.shards.codec import decode_codes, decode_png, decode_structure
from pipeline.shards.tar import Sample
from tvqrap.runtime.errors import UserError
from tvqrap.training.batch import WHOLE_BATCH, Batch, Microbatch

BATCHES_AHEAD = 3
"""Batches that are decoded before the training asks for them."""

DECODING_THREADS = 2


@dataclass(frozen=True)
class _Position:
    """A sample in an epoch."""

    epoch: int
    shard: int
    index: int
    """In the shard, dropped samples left out."""


class Loader:
    """Batches of one set, or a worker's share of each."""

    def __init__(
        self,
        dataset: ShardedDataset,
        members: MemberSelection,
        *,
        seed: int,
        batch_size: int,
        part: Microbatch = WHOLE_BATCH,
    ) -> None:
        """`batch_size`: samples of a whole batch, a multiple of the number of parts."""
        if batch_size % part.of:
            raise ValueError(
                f"found a batch of {batch_size} samples, expected a multiple of {part.of} workers"
            )
        self.dataset = dataset
        self.members = members
        self.seed = seed
        self.batch_size = batch_size
        self.part = part
        self._in_memory: dict[int, list[Sample]] = {}
        self._checked: set[int] = set()

    def batches(self, step: int) -> Generator[Batch, None, None]:
        """Endless batches from step `step` on, decoded ahead by background threads."""
        return prefetch(self._batches(step), BATCHES_AHEAD)

    def all(self, limit: int | None = None) -> list[Batch]:
        """The first `limit` samples (none: all) in stored order with LR variant 0, as batches."""
        positions = [
            _Position(0, shard, index)
            for shard, count in enumerate(self.dataset.counts)
            for index in range(count)
        ][:limit]
        decoded = [self._decode(at, self._sample(at), variant=0) for at in positions]
        self._in_memory.clear()
        return [
            _batch(decoded[start : start + self.batch_size])
            for start in range(0, len(decoded), self.batch_size)
        ]

    def _batches(self, step: int) -> Iterator[Batch]:
        positions = self._positions(step * self.batch_size)
        own = islice(positions, self.part.index, None, self.part.of)
        samples = ((at, self._sample(at)) for at in own)
        decoded = in_threads(lambda each: self._decode(*each), samples, DECODING_THREADS)
        while True:
            yield _batch(list(islice(decoded, self.batch_size // self.part.of)))

    def _positions(self, seen: int) -> Iterator[_Position]:
        """The endless stream after its first `seen` samples."""
        epoch, skip = divmod(seen, self.dataset.samples)
        while True:
            for block in epoch_order(self.dataset.counts, self.seed, epoch):
                if skip >= len(block):
                    skip -= len(block)
                    continue
                needed = {shard for shard, _ in block}
                self._in_memory = {
                    shard: samples for shard, samples in self._in_memory.items() if shard in needed
                }
                for shard, index in block[skip:]:
                    yield _Position(epoch, shard, index)
                skip = 0
            epoch += 1

    def _sample(self, at: _Position) -> Sample:
        if at.shard not in self._in_memory:
            # Only at the first read: a hash at every epoch would double the reading.
            check = at.shard not in self._checked
            self._in_memory[at.shard] = self.dataset.read(at.shard, check_hash=check)
            self._checked.add(at.shard)
        return self._in_memory[at.shard][at.index]

    def _decode(self, at: _Position, sample: Sample, variant: int | None = None) -> "_Decoded":
        if variant is None:
            variants = self.dataset.variants
            variant = variant_of(self.seed, at.epoch, at.shard, at.index, variants)
        try:
            return _decoded(sample, self.members, variant, self.dataset.codebook)
        except ValueError as error:
            shard = self.dataset.shards[at.shard]
            raise UserError(f"{shard}: sample {sample.key}: {error}") from None


@dataclass(frozen=True)
class _Decoded:
    key: str
    hr: np.ndarray | None
    lr: np.ndarray | None
    structure: np.ndarray | None
    codes: np.ndarray | None
    teacher: np.ndarray | None


def _decoded(
    sample: Sample, members: MemberSelection, variant: int, codebook: int | None
) -> _Decoded:
    """The chosen members. Raises ValueError, without the sample's key, where one is damaged."""

    def decoded(name: str, decode: Callable[[bytes], np.ndarray]) -> np.ndarray:
        if name not in sample.members:
            raise ValueError(f"member {name} is missing")
        try:
            return decode(sample.members[name])
        except ValueError as error:
            raise ValueError(f"member {name}: {error}") from None

    decode = partial(decode_codes, codebook=codebook)
    codes = decoded("codes.npy", decode) if members.tokens else None
    has_structure = members.tokens and "structure.npy" in sample.members
    return _Decoded(
        key=sample.key,
        hr=decoded("hr.png", decode_png) if members.hr else None,
        lr=decoded(f"lr{variant}.png", decode_png) if members.lr else None,
        structure=decoded("structure.npy", decode_structure) if has_structure else None,
        codes=codes,
        teacher=decoded(f"teacher{variant}.png", decode_png) if members.teacher else None,
    )


def _batch(samples: Sequence[_Decoded]) -> Batch:
    def stack(read: Callable[[_Decoded], np.ndarray | None]) -> torch.Tensor | None:
        arrays = [array for sample in samples if (array := read(sample)) is not None]
        if not arrays:
            return None
        if len(arrays) < len(samples) or len({array.shape for array in arrays}) > 1:
            raise UserError(
                f"samples {', '.join(sample.key for sample in samples)}: their members are not of "
                "one kind and size, as those of a batch have to be"
            )
        return torch.from_numpy(np.stack(arrays))

    return Batch(
        keys=tuple(sample.key for sample in samples),
        hr=stack(lambda sample: sample.hr),
        lr=stack(lambda sample: sample.lr),
        structure=stack(lambda sample: sample.structure),
        codes=stack(lambda sample: sample.codes),
        teacher=stack(lambda sample: sample.teacher),
    )
