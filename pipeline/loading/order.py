"""The order of samples in an epoch, planned from (seed, epoch)."""

from collections.abc import Iterator, Sequence

from pipeline.rng import random_stream

BLOCK_SHARDS = 8
"""Shards that are in memory and shuffled together."""


def epoch_order(
    counts: Sequence[int], seed: int | str, epoch: int, block_shards: int = BLOCK_SHARDS
) -> Iterator[list[tuple[int, int]]]:
    """Order of one epoch, block by block, as (shard, position in the shard).

    Every sample appears once; the order follows from `seed` and `epoch` alone.
    """
    generator = random_stream("order", seed, epoch)
    shards = generator.permutation(len(counts)).tolist()
    for start in range(0, len(shards), block_shards):
        block = [
            (shard, position)
            for shard in shards[start : start + block_shards]
            for position in range(counts[shard])
        ]
        generator.shuffle(block)
        yield [(int(shard), int(position)) for shard, position in block]


def variant_of(seed: int | str, epoch: int, shard: int, position: int, variants: int) -> int:
    """Which LR image of a sample an epoch uses: all of them in turn, from a random start."""
    start = random_stream("variant", seed, shard, position).integers(variants)
    return int((start + epoch) % variants)
