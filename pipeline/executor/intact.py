"""Which finished shards of a set still agree with their rows."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from pipeline.executor.prefetch import in_threads
from pipeline.executor.run import ExecutorKind, run_tasks
from pipeline.shards.manifest import ShardRow, is_intact
from pipeline.storage.location import Location

SPREAD_BYTES = 10 * 10**9
"""Shards of fewer bytes are read by threads of the driver: it takes seconds."""

_THREADS = 8
CHUNK_BYTES = 2 * 10**9


def intact_shards(
    folder: Location,
    rows: Sequence[ShardRow],
    sizes: Mapping[str, int],
    executor: ExecutorKind,
    workers: int,
) -> list[bool]:
    """Whether each shard of a folder agrees with its row; `sizes` are those of its files.

    On disk files are hashed: by threads, or where Ray has other machines and there are
    `SPREAD_BYTES`, on those. One that cannot be read there counts as damaged.
    """
    if executor != "ray" or sum(row.bytes for row in rows) < SPREAD_BYTES:
        check = partial(_is_intact, folder, sizes)
        return list(in_threads(check, rows, _THREADS))
    chunks: list[list[ShardRow]] = [[]]
    for row in rows:
        if sum(each.bytes for each in chunks[-1]) > CHUNK_BYTES:
            chunks.append([])
        chunks[-1].append(row)
    found: dict[int, list[bool]] = {}
    run_tasks(
        partial(_checker, folder, sizes),
        chunks,
        executor=executor,
        workers=workers,
        on_result=found.__setitem__,
    )
    return [
        sound
        for index, chunk in enumerate(chunks)
        for sound in found.get(index, [False] * len(chunk))
    ]


def _is_intact(folder: Location, sizes: Mapping[str, int], row: ShardRow) -> bool:
    return is_intact(folder / row.name, row, sizes)


def _checker(
    folder: Location, sizes: Mapping[str, int]
) -> Callable[[Sequence[ShardRow]], list[bool]]:
    """The function of a worker."""
    return lambda rows: [_is_intact(folder, sizes, row) for row in rows]
