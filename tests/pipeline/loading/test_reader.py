"""Reading ahead: before it is asked, within bounds, with a clean end."""

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.loading.dataset import ShardedDataset
from pipeline.loading.order import BLOCK_SHARDS
from pipeline.loading.reader import SHARDS_AHEAD, Position, ShardReader
from pipeline.shards.manifest import Manifest, shard_name
from pipeline.shards.tar import Sample, write_shard
from tvqrap.runtime.errors import UserError

PER_SHARD = 6


@pytest.fixture
def dataset(tmp_path: Path) -> ShardedDataset:
    """Four blocks of shards."""
    rows = [
        write_shard(
            tmp_path / shard_name(shard),
            [Sample(f"p{shard}_{index:05d}", {"json": b"{}"}) for index in range(PER_SHARD)],
        )
        for shard in range(4 * BLOCK_SHARDS)
    ]
    Manifest("pairs", "train", {"settings": {"variants": 1}}, tuple(rows)).save(tmp_path)
    return ShardedDataset.open(tmp_path)


def blocks(shards: int, parts: int = 1) -> Iterator[list[Position]]:
    """Endless blocks, each with samples of its shards in turn, or the first of several parts."""
    epoch = 0
    while True:
        for start in range(0, shards, BLOCK_SHARDS):
            own = [
                Position(epoch, shard, index)
                for index in range(PER_SHARD)
                for shard in range(start, start + BLOCK_SHARDS)
            ]
            yield own[::parts]
        epoch += 1


def until(condition: Callable[[], bool]) -> bool:
    """Whether a condition comes true, and stays so for a moment in which more could be read."""
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    return condition()


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the shards that are read, in order."""
    numbers: list[int] = []
    reading = ShardedDataset.read
    monkeypatch.setattr(
        ShardedDataset,
        "read",
        lambda self, shard, **options: numbers.append(shard) or reading(self, shard, **options),
    )
    return numbers


def test_the_next_block_is_read_ahead_as_far_as_there_is_room(
    dataset: ShardedDataset, read: list[int]
) -> None:
    stream = ShardReader(dataset).stream(blocks(len(dataset.shards)), 1)
    with closing(stream):
        next(stream)
        assert until(lambda: len(read) == BLOCK_SHARDS + SHARDS_AHEAD)
        for taken in range(1, 3 * PER_SHARD):
            next(stream)
            assert len(read) <= BLOCK_SHARDS + SHARDS_AHEAD + taken // PER_SHARD + 1
        assert until(lambda: len(read) == BLOCK_SHARDS + SHARDS_AHEAD + 2)
        # Before the first sample of the second block is asked for, all its shards are read.
        for _ in range(BLOCK_SHARDS * PER_SHARD - 3 * PER_SHARD):
            next(stream)
        assert until(lambda: set(read) == set(range(2 * BLOCK_SHARDS)))


@pytest.mark.parametrize("parts", [1, 4])
def test_memory_holds_a_workers_part_of_a_block_and_a_half(
    dataset: ShardedDataset, parts: int
) -> None:
    room = (BLOCK_SHARDS + SHARDS_AHEAD) * -(-PER_SHARD // parts)
    others = {id(each) for each in gc.get_objects() if isinstance(each, Sample)}

    def held() -> int:
        found = (each for each in gc.get_objects() if isinstance(each, Sample))
        return sum(id(each) not in others for each in found)

    stream = ShardReader(dataset).stream(blocks(len(dataset.shards), parts), parts)
    with closing(stream):
        for _ in range(3 * len(dataset.shards) * PER_SHARD // parts):
            at, sample = next(stream)
            assert sample.key == f"p{at.shard}_{at.index:05d}"
            del sample
        assert until(lambda: 0 < held() <= room)


def test_closing_ends_the_threads_and_reads_no_more(
    dataset: ShardedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = threading.active_count()
    read: list[int] = []
    go_on = threading.Event()
    reading = ShardedDataset.read

    def slow(self: ShardedDataset, shard: int, **options: bool) -> list[Sample]:
        read.append(shard)
        if len(read) > BLOCK_SHARDS:
            go_on.wait(10)
        return reading(self, shard, **options)

    monkeypatch.setattr(ShardedDataset, "read", slow)
    stream = ShardReader(dataset).stream(blocks(len(dataset.shards)), 1)
    next(stream)
    assert until(lambda: len(read) == BLOCK_SHARDS + SHARDS_AHEAD)
    threading.Timer(0.1, go_on.set).start()
    stream.close()
    assert until(lambda: threading.active_count() == before)
    assert len(read) == BLOCK_SHARDS + SHARDS_AHEAD


def test_a_damaged_shard_is_an_error_at_its_first_sample(dataset: ShardedDataset) -> None:
    folder = dataset.folders[0]
    assert isinstance(folder, Path)
    (folder / shard_name(BLOCK_SHARDS)).write_bytes(b"damaged")
    before = threading.active_count()
    taken = []
    stream = ShardReader(dataset).stream(blocks(len(dataset.shards)), 1)
    with pytest.raises(UserError, match=r"000008\.tar"), closing(stream):
        for at, _ in stream:
            taken.append(at)
    assert len(taken) == BLOCK_SHARDS * PER_SHARD
    assert until(lambda: threading.active_count() == before)


def test_a_small_set_is_read_once(tmp_path: Path, read: list[int]) -> None:
    rows = [
        write_shard(tmp_path / shard_name(n), [Sample(f"p{n}_00000", {"json": b"{}"})])
        for n in range(2)
    ]
    Manifest("pairs", "train", {"settings": {"variants": 1}}, tuple(rows)).save(tmp_path)
    positions = [Position(0, 1, 0), Position(0, 0, 0)]
    stream = ShardReader(ShardedDataset.open(tmp_path)).stream(iter([positions] * 3), 1)
    with closing(stream):
        assert [at for at, _ in stream] == 3 * positions
    assert sorted(read) == [0, 1]
