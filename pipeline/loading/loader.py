"""Batches for training, in an order planned from (seed, epoch) and resumable at any step.

The stream of a set's samples is endless: epoch after epoch, each in its own order, and each sample
once an epoch. Within an epoch the shards are shuffled and read in blocks, and the samples are
shuffled within each block, so that storage sees whole files. The next block is read while this one
is used. A mixture takes the samples of each batch from the streams of several sets. Any step of any
batch size maps to a position in each stream. Workers that train together share each batch: together
they see the batches that one worker alone would see. Each reads every shard, and keeps and decodes
its own samples.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from itertools import count, islice

import numpy as np
import torch

from pipeline.executor.prefetch import in_threads, prefetch
from pipeline.loading.dataset import MemberSelection, ShardedDataset
from pipeline.loading.mixture import Mixture
from pipeline.loading.order import epoch_order, variant_of
from pipeline.loading.reader import Position, ShardReader
from pipeline.shards.codec import decode_codes, decode_png, decode_structure
from pipeline.shards.tar import Sample, decoded_member
from pipeline.storage.location import Location
from tvqrap.runtime.errors import UserError
from tvqrap.training.batch import WHOLE_BATCH, Batch, Microbatch

BATCHES_AHEAD = 3
"""Batches that are decoded before the training asks for them."""

DECODING_THREADS = 2


class Loader:
    """Batches of one set or of a mixture of sets, or a worker's share of each."""

    def __init__(
        self,
        sets: ShardedDataset | Mixture,
        members: MemberSelection,
        *,
        seed: int,
        batch_size: int,
        part: Microbatch = WHOLE_BATCH,
        pinned: bool = False,
    ) -> None:
        """`batch_size`: samples of a whole batch, a multiple of the number of parts.

        `pinned`: `batches` lie in page-locked memory, from which copies to a CUDA device run beside
        the training.
        """
        if batch_size % part.of:
            raise ValueError(
                f"found a batch of {batch_size} samples, expected a multiple of {part.of} workers"
            )
        self.mixture = sets if isinstance(sets, Mixture) else Mixture.alone(sets)
        self.members = members
        self.seed = seed
        self.batch_size = batch_size
        self.part = part
        self.pinned = pinned
        self._readers = [ShardReader(dataset) for dataset in self.mixture.datasets]

    def batches(self, step: int) -> Generator[Batch, None, None]:
        """Endless batches from step `step` on, decoded ahead by background threads."""
        return prefetch(self._batches(step), BATCHES_AHEAD)

    def all(self, limit: int | None = None) -> list[Batch]:
        """The first `limit` samples (none: all) in stored order with LR variant 0, as batches."""
        decoded = list(islice(self._stored(), limit))
        return [
            _batch(decoded[start : start + self.batch_size])
            for start in range(0, len(decoded), self.batch_size)
        ]

    def _stored(self) -> Iterator["_Decoded"]:
        for number, reader in enumerate(self._readers):
            for shard in range(len(reader.dataset.shards)):
                for index, sample in enumerate(reader.read(shard)):
                    yield self._decode(number, Position(0, shard, index), sample, variant=0)

    def _batches(self, step: int) -> Generator[Batch, None, None]:
        with (
            closing(self._samples(step)) as samples,
            closing(
                in_threads(lambda each: self._decode(*each), samples, DECODING_THREADS)
            ) as decoded,
        ):
            while True:
                batch = _batch(list(islice(decoded, self.batch_size // self.part.of)))
                yield batch.pinned() if self.pinned else batch

    def _samples(self, step: int) -> Generator[tuple[int, Position, Sample], None, None]:
        """This worker's samples from a step on, each with the number of its set."""
        with ExitStack() as stack:
            streams = [
                stack.enter_context(
                    closing(reader.stream(self._blocks(number, step), self.part.of))
                )
                for number, reader in enumerate(self._readers)
            ]
            for each in count(step):
                batch = self.mixture.batch(self.seed, each, self.batch_size)
                for number in batch[self.part.index :: self.part.of]:
                    yield (number, *next(streams[number]))

    def _blocks(self, number: int, step: int) -> Iterator[list[Position]]:
        """This worker's positions in the endless stream of a set, from a step on."""
        dataset = self.mixture.datasets[number]
        seed = self.mixture.seed(self.seed, number)
        seen = self.mixture.before(step * self.batch_size)[number]
        own = self._own(number, step)
        epoch = seen // dataset.samples
        while True:
            place = epoch * dataset.samples
            for block in epoch_order(dataset.counts, seed, epoch):
                if place + len(block) > seen:
                    yield [
                        Position(epoch, shard, index)
                        for n, (shard, index) in enumerate(block, place)
                        if n >= seen and next(own)
                    ]
                place += len(block)
            epoch += 1

    def _own(self, number: int, step: int) -> Iterator[bool]:
        """Whether each sample of a set, from a step on, is this worker's."""
        for each in count(step):
            batch = self.mixture.batch(self.seed, each, self.batch_size)
            for place, of in enumerate(batch):
                if of == number:
                    yield place % self.part.of == self.part.index

    def _decode(
        self, number: int, at: Position, sample: Sample, variant: int | None = None
    ) -> "_Decoded":
        dataset = self.mixture.datasets[number]
        if variant is None:
            seed = self.mixture.seed(self.seed, number)
            variant = variant_of(seed, at.epoch, at.shard, at.index, dataset.variants)
        shard = dataset.folders[0] / dataset.shards[at.shard]
        return _decoded(shard, sample, self.members, variant, dataset.codebook)


@dataclass(frozen=True)
class _Decoded:
    key: str
    hr: np.ndarray | None
    lr: np.ndarray | None
    structure: np.ndarray | None
    codes: np.ndarray | None
    teacher: np.ndarray | None


def _decoded(
    shard: Location, sample: Sample, members: MemberSelection, variant: int, codebook: int | None
) -> _Decoded:
    """The chosen members. Raises UserError where one is missing or damaged."""
    decoded = partial(decoded_member, shard, sample)
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
