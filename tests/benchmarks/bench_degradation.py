"""Milliseconds of one core per LR image, by degradation step.

    python -m tests.benchmarks.bench_degradation

Draws crops of the photographs that params.yaml names, degrades them and times every step.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.config import DataSettings, PairsSettings
from pipeline.pairs import degradation
from pipeline.pairs.crops import cut, plan_crop
from pipeline.rng import random_stream
from pipeline.shards.codec import encode_png
from pipeline.sources import photos

STEPS = ("sharpen", "draw_kernel", "blur", "resize", "gaussian_noise", "poisson_noise", "jpeg")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--degradation", default="train")
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--samples", type=int, default=200)
    options = parser.parse_args()
    params = YAML(typ="safe").load(options.params)
    data = DataSettings.model_validate(params["data"])
    settings = PairsSettings.model_validate(params["pairs"]).degradations[options.degradation]

    spent: dict[str, float] = defaultdict(float)

    def timed(name: str) -> None:
        function: Callable[..., Any] = getattr(degradation, name)

        def call(*arguments: Any, **options: Any) -> Any:
            start = time.process_time()
            result = function(*arguments, **options)
            spent[name] += time.process_time() - start
            return result

        setattr(degradation, name, call)

    for step in STEPS:
        timed(step)

    folder = Path(data.photos)
    found = photos.discover(folder).photos
    decoded = [photos.decode(folder / photo.name, data) for photo in found[:8]]
    for size in options.sizes:
        crops = []
        for index in range(options.samples):
            photo = decoded[index % len(decoded)]
            height, width = photo.shape[:2]
            crop = plan_crop("zoom", width, height, size, True, 0.0, index, ("bench",))
            crops.append(cut(photo, "zoom", size, crop))
        degradation.degrade(crops[0], settings, random_stream("bench"))
        spent.clear()
        start = time.process_time()
        for index, crop_image in enumerate(crops):
            lr = degradation.degrade(crop_image, settings, random_stream("bench", index)).image
        total = (time.process_time() - start) / len(crops)
        start = time.process_time()
        for crop_image in crops:
            encode_png(crop_image)
        encoding = (time.process_time() - start) / len(crops)
        print(f"HR {size}: {total * 1e3:.2f} ms per LR image, {1 / total:.0f} per second")
        for name in STEPS:
            print(f"  {name:15} {spent[name] / len(crops) * 1e3:7.3f} ms")
        print(f"  {'HR to PNG':15} {encoding * 1e3:7.3f} ms (once per crop)")
        assert lr.shape[0] * 4 == size


if __name__ == "__main__":
    main()
