"""Feeding shards to training: an order planned from (seed, epoch), resumable at any sample.

The stream of samples is endless: epoch after epoch, each in its own order, with no sample lost or
doubled at the joints. Within an epoch the shards are shuffled, read in blocks, and the samples
shuffled within each block, so that storage sees whole files in sequence. A position in the stream
is (epoch, samples seen in it), which any step of any batch size maps to. Workers that train
together deal the samples of each batch among them: all take the same steps, together with the same
batches as one alone. Each reads every shard and decodes its own samples.
"""

import contextlib
import queue
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch

from pipeline.loading.dataset import ShardedDataset, Wanted
from pipeline.loading.order import epoch_order, variant_of
from pipeline.shards.codec import decode_array, decode_png
from pipeline.shards.tar import Sample
from tvqrap.runtime.errors import UserError
from tvqrap.training.batch import WHOLE_BATCH, Batch, Microbatch

BATCHES_AHEAD = 3

DECODING_THREADS = 2


@dataclass(frozen=True)
class _Place:
    epoch: int
    shard: int
    position: int


class Loader:
    """Batches of one set, or the part of each that is a worker's."""

    def __init__(
        self,
        source: ShardedDataset,
        wanted: Wanted,
        *,
        seed: int,
        batch: int,
        part: Microbatch = WHOLE_BATCH,
    ) -> None:
        """`batch`: samples of a whole batch, a multiple of the parts."""
        if batch % part.of:
            raise ValueError(f"a batch of {batch} cannot be dealt to {part.of} workers")
        self.source = source
        self.wanted = wanted
        self.seed = seed
        self.batch = batch
        self.part = part
        self._held: dict[int, list[Sample]] = {}

    def batches(self, step: int) -> Generator[Batch, None, None]:
        """Endless batches from step `step` on, decoded ahead by a background thread."""
        ahead: queue.Queue[Batch | BaseException] = queue.Queue(maxsize=BATCHES_AHEAD)
        stopped = threading.Event()

        def put(item: Batch | BaseException) -> None:
            while not stopped.is_set():
                with contextlib.suppress(queue.Full):
                    ahead.put(item, timeout=0.2)
                    return

        def fill() -> None:
            try:
                with ThreadPoolExecutor(DECODING_THREADS) as pool:
                    places = self._places(step * self.batch)
                    while not stopped.is_set():
                        batch = islice(places, self.batch)
                        ours = islice(batch, self.part.index, None, self.part.of)
                        samples = [(place, self._sample(place)) for place in ours]
                        put(_batch(list(pool.map(self._decode, samples))))
            except BaseException as error:
                put(error)

        thread = threading.Thread(target=fill, daemon=True, name="loader")
        thread.start()
        try:
            while True:
                item = ahead.get()
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            stopped.set()
            thread.join()

    def all(self, limit: int | None = None) -> list[Batch]:
        """The first `limit` samples (none: all) in stored order with LR variant 0, as batches."""
        places = [
            _Place(0, shard, position)
            for shard, count in enumerate(self.source.counts)
            for position in range(count)
        ][:limit]
        decoded = [_decode_sample(self._sample(place), self.wanted, variant=0) for place in places]
        self._held.clear()
        return [
            _batch(decoded[start : start + self.batch])
            for start in range(0, len(decoded), self.batch)
        ]

    def _places(self, seen: int) -> Iterator[_Place]:
        epoch, skip = divmod(seen, self.source.samples)
        while True:
            for block in epoch_order(self.source.counts, self.seed, epoch):
                if skip >= len(block):
                    skip -= len(block)
                    continue
                needed = {shard for shard, _ in block}
                # Blocks of the last batch may still be needed beside the new one, no older.
                self._held = {s: self._held[s] for s in self._held if s in needed}
                for shard, position in block[skip:]:
                    yield _Place(epoch, shard, position)
                skip = 0
            epoch += 1

    def _sample(self, place: _Place) -> Sample:
        if place.shard not in self._held:
            self._held[place.shard] = self.source.read(place.shard)
        return self._held[place.shard][place.position]

    def _decode(self, item: tuple[_Place, Sample]) -> "_Decoded":
        place, sample = item
        variant = variant_of(
            self.seed, place.epoch, place.shard, place.position, self.source.variants
        )
        return _decode_sample(sample, self.wanted, variant)


@dataclass(frozen=True)
class _Decoded:
    key: str
    hr: np.ndarray | None
    lr: np.ndarray | None
    structure: np.ndarray | None
    codes: np.ndarray | None
    teacher: np.ndarray | None


def _decode_sample(sample: Sample, wanted: Wanted, variant: int) -> _Decoded:
    def member(name: str) -> bytes:
        try:
            return sample.members[name]
        except KeyError:
            raise UserError(f"sample {sample.key}: member {name} is missing") from None

    def decoded(name: str, decode: Callable[[bytes], np.ndarray]) -> np.ndarray:
        try:
            return decode(member(name))
        except ValueError as error:
            raise UserError(f"sample {sample.key}: member {name}: {error}") from None

    tokens = wanted.tokens
    has_structure = tokens and "structure.npy" in sample.members
    return _Decoded(
        key=sample.key,
        hr=decoded("hr.png", decode_png) if wanted.hr else None,
        lr=decoded(f"lr{variant}.png", decode_png) if wanted.lr else None,
        structure=decoded("structure.npy", decode_array) if has_structure else None,
        codes=decoded("codes.npy", decode_array).astype(np.int64) if tokens else None,
        teacher=decoded(f"teacher{variant}.png", decode_png) if wanted.teacher else None,
    )


def _batch(samples: Sequence[_Decoded]) -> Batch:
    def stack(read: Callable[[_Decoded], np.ndarray | None]) -> torch.Tensor | None:
        arrays = [array for sample in samples if (array := read(sample)) is not None]
        return torch.from_numpy(np.stack(arrays)) if arrays else None

    return Batch(
        keys=tuple(sample.key for sample in samples),
        hr=stack(lambda sample: sample.hr),
        lr=stack(lambda sample: sample.lr),
        structure=stack(lambda sample: sample.structure),
        codes=stack(lambda sample: sample.codes),
        teacher=stack(lambda sample: sample.teacher),
    )
