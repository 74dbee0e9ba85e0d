"""Scan of photographs against the decoding of the same files, as ratios of CPU time.

    python -m tests.benchmarks.bench_scan

The photographs are made up: JPEG files of noise and gradients. The floor decodes each with Pillow
and hashes its bytes, in this process and nothing else. Then the scan of `make_pairs` runs: once
anew, once where it knows all photographs, and once with one in a hundred of them changed.
"""

import argparse
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from pipeline.executor.run import ExecutorKind
from pipeline.sources.scan import scan_photos
from tests.support.pairs import data_settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--side", type=int, default=500, help="of a photograph, in pixels")
    parser.add_argument("--executor", choices=["serial", "processes"], default="serial")
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    executor: ExecutorKind = given.executor
    with TemporaryDirectory() as temporary:
        photos, kept = Path(temporary) / "photos", Path(temporary) / "kept"
        write_photos(photos, given.photos, given.side)
        data = data_settings(photos, min_side=64, max_pixels=10**8, max_skipped_fraction=0.0)

        def scan() -> None:
            scan_photos(data, executor=executor, workers=given.workers, kept=kept)

        floor = seconds(lambda: decode_all(photos))
        anew, again = seconds(scan), seconds(scan)
        for path in sorted(photos.iterdir())[::100]:
            os.utime(path, (0, 0))
        changed = seconds(scan)
    each = 1e3 / given.photos
    print(f"floor: {floor * each:.2f} ms a photograph")
    for name, took in (("anew", anew), ("all known", again), ("1 % changed", changed)):
        print(f"{name}: {took * each:.3f} ms a photograph, {took / floor:.1%} of the floor")


def write_photos(folder: Path, count: int, side: int) -> None:
    """Files that differ."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 200, side)[None, :, None] + np.zeros((side, 1, 3))
    for number in range(count):
        image = ramp * rng.random(3) + rng.integers(0, 50, (side, side, 3))
        Image.fromarray(image.astype(np.uint8)).save(folder / f"{number:06d}.jpg", quality=90)


def decode_all(folder: Path) -> None:
    """Decodes and hashes each file."""
    for path in sorted(folder.iterdir()):
        hashlib.sha256(path.read_bytes()).hexdigest()
        with Image.open(path) as image:
            image.convert("RGB").load()


def seconds(run: Callable[[], None]) -> float:
    """CPU seconds that a call takes, those of its processes included."""
    begun = sum(os.times()[:4])
    run()
    return sum(os.times()[:4]) - begun


if __name__ == "__main__":
    main()
