"""Reads the shards of a planned order of samples ahead, in threads and within bounded memory."""

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from pipeline.loading.dataset import ShardedDataset
from pipeline.loading.order import BLOCK_SHARDS
from pipeline.shards.tar import Sample

SHARDS_AHEAD = 4
"""Shards of the next block that are in memory beside a whole block. As samples of a block are used,
further shards of the next one take their place."""

READING_THREADS = BLOCK_SHARDS
"""A block's first batch has samples of nearly all of its shards, so all are read at once."""


@dataclass(frozen=True)
class Position:
    """A sample in an epoch."""

    epoch: int
    shard: int
    index: int
    """In the shard, dropped samples left out."""


class ShardReader:
    """Reads the samples of one set, and remembers which shards had the right hash."""

    def __init__(self, dataset: ShardedDataset) -> None:
        self.dataset = dataset
        self._checked: set[int] = set()

    def read(self, shard: int) -> list[Sample]:
        """All samples of a shard. Its SHA-256 is checked at the first read alone.

        A hash at every epoch would double the reading.
        """
        samples = self.dataset.read(shard, check_hash=shard not in self._checked)
        self._checked.add(shard)
        return samples

    def stream(
        self, blocks: Iterator[Sequence[Position]], parts: int
    ) -> Generator[tuple[Position, Sample], None, None]:
        """The samples at the positions of endless blocks, in their order.

        A block has positions of up to `BLOCK_SHARDS` shards: those of one of `parts` workers that
        share a set equally. Threads read the shards of the next block while samples of this one
        are taken. They keep the samples at the positions alone, and each until it is taken: in all
        at most this worker's part of `BLOCK_SHARDS + SHARDS_AHEAD` shards. (In a mixture of sets a
        worker's part of a block is equal on average.) A set of up to `BLOCK_SHARDS` shards is read
        once and kept whole.
        An error of a shard is raised in place of its first sample. Closing the generator waits for
        the reads in hand.
        """
        pool = ThreadPoolExecutor(READING_THREADS, thread_name_prefix="shards")
        try:
            if len(self.dataset.shards) <= BLOCK_SHARDS:
                yield from self._kept(pool, blocks)
            else:
                yield from self._ahead(pool, blocks, parts)
        finally:
            pool.shutdown(cancel_futures=True)

    def _kept(
        self, pool: ThreadPoolExecutor, blocks: Iterator[Sequence[Position]]
    ) -> Iterator[tuple[Position, Sample]]:
        shards: dict[int, Future[list[Sample]]] = {}
        for block in blocks:
            for at in block:
                if at.shard not in shards:
                    shards[at.shard] = pool.submit(self.read, at.shard)
            for at in block:
                yield at, shards[at.shard].result()[at.index]

    def _ahead(
        self, pool: ThreadPoolExecutor, blocks: Iterator[Sequence[Position]], parts: int
    ) -> Iterator[tuple[Position, Sample]]:
        largest = -(-max(self.dataset.counts) // parts)
        room = (BLOCK_SHARDS + SHARDS_AHEAD) * largest
        current, following = (_Block.of(next(blocks)) for _ in range(2))
        while True:
            for at in current.positions:
                for block in (current, following):
                    while block.unread:
                        shard = block.unread[0]
                        held = current.held + following.held + len(block.wanted[shard])
                        # The current block always has room: its next sample is needed now.
                        if block is following and held > room:
                            break
                        block.unread.popleft()
                        block.reads[shard] = pool.submit(self._wanted, shard, block.wanted[shard])
                        block.held += len(block.wanted[shard])
                sample = current.reads[at.shard].result().pop(at.index)
                current.held -= 1
                yield at, sample
            current, following = following, _Block.of(next(blocks))

    def _wanted(self, shard: int, indices: Sequence[int]) -> dict[int, Sample]:
        samples = self.read(shard)
        return {index: samples[index] for index in indices}


@dataclass
class _Block:
    """A block whose shards are being read."""

    positions: Sequence[Position]
    wanted: dict[int, list[int]]
    """Indices of the positions in each shard; shards in the order in which they are needed."""
    unread: deque[int]
    """Shards that wait for room."""
    reads: dict[int, Future[dict[int, Sample]]] = field(default_factory=dict)
    """Samples by index in their shard; those that were taken are gone."""
    held: int = 0
    """Samples in `reads`."""

    @classmethod
    def of(cls, positions: Sequence[Position]) -> "_Block":
        wanted: dict[int, list[int]] = {}
        for at in positions:
            wanted.setdefault(at.shard, []).append(at.index)
        return cls(positions, wanted, deque(wanted))
