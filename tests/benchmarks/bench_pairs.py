"""Milliseconds of CPU that make_pairs takes per LR image, all told and by step.

    python -m tests.benchmarks.bench_pairs

Makes a set of pairs as the stage does, in this process: photographs are decoded, crops cut,
degraded and written as a shard. `bench_degradation` breaks the degradation itself down.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2

from pipeline.pairs import shard
from pipeline.pairs.make import make_set
from pipeline.sources.scan import scan_photos
from stages.params import load_params

STEPS = {
    "decode": "photographs decoded",
    "cut": "crops cut",
    "degrade": "degradation",
    "encode_png": "HR and LR to PNG",
    "write_shard": "shard written, hashed, read back",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, default=Path("stages/profiles/paper.yaml"))
    parser.add_argument("--set", default="train")
    parser.add_argument("--photos", default="data/photos")
    parser.add_argument("--crops", type=int, default=150)
    parser.add_argument("--variants", type=int, help="LR images per crop; the set's if not given")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    params = load_params(given.params)
    data = params.data.model_copy(update={"photos": given.photos})
    whole = params.pairs.splits.model_copy(update={"train": 1.0, "val": 0.0, "test": 0.0})
    chosen = params.pairs.sets[given.set]
    variants = given.variants or chosen.variants
    chosen = chosen.model_copy(update={"count": given.crops, "variants": variants})
    settings = params.pairs.model_copy(update={"splits": whole, "sets": {given.set: chosen}})
    scan = scan_photos(data, executor="serial", workers=1)

    spent: dict[str, float] = defaultdict(float)

    def timed(name: str) -> None:
        function: Callable[..., Any] = getattr(shard, name)

        def call(*arguments: Any) -> Any:
            start = time.process_time()
            before = sum(spent.values())
            result = function(*arguments)
            # Without what the steps inside have taken: the writer asks for samples one by one.
            spent[name] += time.process_time() - start - (sum(spent.values()) - before)
            return result

        setattr(shard, name, call)

    for step in STEPS:
        timed(step)
    with TemporaryDirectory() as work:
        start = time.process_time()
        make_set(given.set, settings, data, scan, Path(work), executor="serial", workers=1)
        total = time.process_time() - start
    images = given.crops * variants
    print(
        f"{given.set}: {given.crops} crops of {chosen.size}, {variants} LR images "
        f"each: {1e3 * total / images:.1f} ms of CPU per LR image, {images / total:.0f} per second"
    )
    for name, what in STEPS.items():
        print(f"  {what:34} {1e3 * spent[name] / images:6.2f} ms")
    print(f"  {'the rest':34} {1e3 * (total - sum(spent.values())) / images:6.2f} ms")


if __name__ == "__main__":
    main()
