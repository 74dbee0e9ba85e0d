"""CPU seconds and megabytes of the driver of make_pairs for many photographs, before any shard.

    python -m tests.benchmarks.bench_plan --photos 1000000

The photographs are made up: random sizes and hashes, and no files. Each step is one of the stage:
splits, near-duplicates, the plan of a set with one crop of each photograph, the digest of each
shard's plan. The tasks of some shards show what a worker gets. With `--added`, so many photographs
are added, and the shards are counted that would be made.
"""

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pipeline.config import PairsSettings
from pipeline.pairs.plan import PlannedSet, plan_set
from pipeline.sources.scan import PhotoScan
from pipeline.sources.scanned import ScannedPhotos, locators_of
from stages.params import load_params

SET = "train"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=1_000_000)
    parser.add_argument("--crops", type=int, default=1, help="of each photograph of the split")
    parser.add_argument("--skip-near-duplicates", action="store_true")
    parser.add_argument("--added", type=int, default=0, help="photographs")
    parser.add_argument("--shard-size", type=int, default=1000)
    parser.add_argument("--params", type=Path, default=Path("stages/profiles/paper.yaml"))
    given = parser.parse_args()
    pairs = load_params(given.params).pairs
    with step("modules, before any photograph", 1):
        pass
    with step("photographs made up", given.photos):
        scan = PhotoScan(made_up(given.photos), ())
    with step("splits", given.photos):
        of_split = {name: len(numbers) for name, numbers in scan.splits(pairs).items()}
    if not given.skip_near_duplicates:
        with step(f"near-duplicates ({of_split})", given.photos):
            scan.near_duplicates(pairs)
    count = given.crops * of_split[pairs.sets[SET].split]
    with step(f"plan of {count} crops", count):
        planned = plan(pairs, scan, count, given.shard_size)
    with step(f"digests of {len(planned)} shards", count):
        before = {planned.plan(name) for name in planned}
    shown = list(planned)[:20]
    with step(f"tasks of {len(shown)} shards", sum(planned.size(name) for name in shown)):
        for name in shown:
            _ = planned[name]
    if given.added:
        more = PhotoScan(made_up(given.photos + given.added), ())
        for crops in (0, given.crops * given.added):
            after = plan(pairs, more, count + crops, given.shard_size)
            made = sum(after.plan(name) not in before for name in after)
            print(
                f"{given.added} photographs and {crops} crops more: {made} of {len(after)} shards "
                "are made"
            )


def made_up(count: int) -> ScannedPhotos:
    """Photographs of random sizes and hashes; more of them begin with the same ones."""
    random = [np.random.default_rng(seed) for seed in range(4)]
    sides = random[0].integers(300, 900, (count, 2), np.int32)
    hashes = random[1].integers(0, 2**64, count, np.uint64)
    digests = np.frombuffer(random[2].bytes(32 * count), "V32")
    number = _digits(np.arange(count), 10, 9)
    name = np.char.add(np.char.add(b"n00000/photograph_", number), b".jpg")
    digest = _digits(random[3].integers(0, 2**64, count, np.uint64), 16, 16)
    keys = np.char.add(np.char.add(b"n00000-photograph_", number), np.char.add(b"-", digest))
    names = name.astype(np.dtypes.StringDType())
    order = np.argsort(keys)
    return ScannedPhotos(
        keys[order],
        names[order],
        sides[order, 0],
        sides[order, 1],
        digests[order],
        hashes[order],
        locators_of([""] * count),
    )


def _digits(numbers: np.ndarray, base: int, count: int) -> np.ndarray:
    """The last `count` digits of each number, as ASCII."""
    found = np.empty((len(numbers), count), np.uint8)
    for place in reversed(range(count)):
        numbers, digit = np.divmod(numbers, numbers.dtype.type(base))
        found[:, place] = np.frombuffer(b"0123456789abcdef", np.uint8)[digit]
    return found.view(f"S{count}")[:, 0]


def plan(pairs: PairsSettings, scan: PhotoScan, count: int, shard_size: int) -> PlannedSet:
    """The plan of a set of so many crops."""
    settings = pairs.sets[SET].model_copy(update={"count": count, "size": 256})
    chosen = scan.splits(pairs)[settings.split]
    return plan_set(SET, pairs.seed, settings, scan.usable, chosen, shard_size, "")


@contextmanager
def step(what: str, count: int) -> Iterator[None]:
    """Prints the CPU seconds of a step, for each item too, and its peak of memory (Linux alone)."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak from here on
    start = time.process_time()
    yield
    seconds = time.process_time() - start
    status = Path("/proc/self/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    print(
        f"{what}: {seconds:.1f} s, {1e6 * seconds / count:.2f} us each; peak {peak:.0f} MB",
        flush=True,
    )


if __name__ == "__main__":
    main()
