"""Share of a training's time that it waits for its loader, with a slow store simulated.

    python -m tests.benchmarks.bench_loader

Reading a shard takes `--latency` seconds and a step of the training `--step` seconds, both spent
asleep. The floor is the steps alone. A store without latency is measured first: what a step waits
there, it waits for a core. The wait for the first batch is given apart: nothing can be read before
a training begins.
"""

import argparse
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from pipeline.loading.dataset import MemberSelection, ShardedDataset
from pipeline.loading.loader import Loader
from pipeline.loading.order import BLOCK_SHARDS
from pipeline.shards.codec import encode_png
from pipeline.shards.manifest import Manifest, shard_name
from pipeline.shards.tar import Sample, write_shard
from pipeline.storage.location import Location
from tvqrap.training.batch import Microbatch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency", type=float, default=0.5, help="seconds to read a shard")
    parser.add_argument("--step", type=float, default=0.05, help="seconds of a training step")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--shards", type=int, default=40)
    parser.add_argument("--samples", type=int, default=100, help="in a shard")
    parser.add_argument("--size", type=int, default=64, help="side of an HR crop")
    parser.add_argument("--workers", type=int, default=1, help="that share each batch")
    given = parser.parse_args()
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "train"
        write_set(folder, given.shards, given.samples, given.size)
        dataset = ShardedDataset.open(folder)
        block = BLOCK_SHARDS * given.samples / given.batch
        print(f"{given.steps} steps of {1e3 * given.step:g} ms, {block:g} per block of shards")
        for latency in (0.0, given.latency):
            loader = Loader(
                slow(dataset, latency),
                MemberSelection(hr=True, lr=True),
                seed=0,
                batch_size=given.batch,
                part=Microbatch(0, given.workers),
            )
            report(latency, given.steps * given.step, *train(loader, given.steps, given.step))


def report(latency: float, floor: float, first: float, waits: list[float], total: float) -> None:
    """Prints the share of the time that is the floor, and what was waited beside it."""
    print(
        f"shards of {latency:g} s: {total:.1f} s, the floor is {floor / total:.1%} of it; waited "
        f"{sum(waits):.2f} s ({sum(waits) / total:.1%}), at most {1e3 * max(waits):.0f} ms for a "
        f"batch, and {first:.2f} s for the first",
        flush=True,
    )


def write_set(folder: Location, shards: int, samples: int, size: int) -> Manifest:
    """A set of random pairs; its shards have equal bytes but for the keys."""
    rng = np.random.default_rng(0)
    hr = encode_png(rng.integers(0, 256, (size, size, 3), np.uint8))
    lr = encode_png(rng.integers(0, 256, (size // 4, size // 4, 3), np.uint8))
    rows = [
        write_shard(
            folder / shard_name(shard),
            (Sample(f"s{shard}_{n:05d}", {"hr.png": hr, "lr0.png": lr}) for n in range(samples)),
        )
        for shard in range(shards)
    ]
    manifest = Manifest("pairs", "train", {"settings": {"variants": 1}}, tuple(rows))
    manifest.save(folder)
    return manifest


class SlowDataset(ShardedDataset):
    """A data set in a store that answers after a while."""

    latency: float

    def read(self, shard: int, *, check_hash: bool = True) -> list[Sample]:
        """The samples of a shard, no sooner than the latency."""
        ready = time.monotonic() + self.latency
        samples = super().read(shard, check_hash=check_hash)
        time.sleep(max(0.0, ready - time.monotonic()))
        return samples


def slow(dataset: ShardedDataset, latency: float) -> SlowDataset:
    """The same data set, with a latency."""
    slowed = SlowDataset(**vars(dataset))
    object.__setattr__(slowed, "latency", latency)
    return slowed


def train(loader: Loader, steps: int, seconds: float) -> tuple[float, list[float], float]:
    """(seconds for the first batch, those for each other batch, all seconds after the first)."""
    with closing(loader.batches(0)) as batches:
        begun = time.monotonic()
        waits = []
        for _ in range(steps):
            asked = time.monotonic()
            next(batches)
            waits.append(time.monotonic() - asked)
            time.sleep(seconds)
        total = time.monotonic() - begun - waits[0]
    return waits[0], waits[1:], total


if __name__ == "__main__":
    main()
