"""What each metric costs: milliseconds of one core for one image, by side.

    python -m tests.benchmarks.bench_metrics --sides 256 512

Processor time, not wall time, so that other work on the machine does not show; the least of the
rounds. Metrics that need weights which are not here are named and left out.
"""

import argparse
import time

import numpy as np
import torch
from PIL import Image

from tvqrap.evaluation.metrics.registry import METRICS
from tvqrap.evaluation.metrics.scorer import Scorer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", type=int, nargs="+", default=[256])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    coarse = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    for name in METRICS:
        scorer = Scorer([name])
        if scorer.missing:
            print(f"{name:14} missing: {scorer.missing[name].partition(', not')[0]}")
            continue
        if not scorer.of_images:
            continue
        for side in options.sides:
            image = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
            hr = np.asarray(image)
            made = np.asarray(image.reduce(2).resize((side, side), Image.Resampling.BICUBIC))
            seconds = []
            for _ in range(1 + options.rounds):
                start = time.process_time()
                score = scorer.score(made, scorer.reference(hr))[name]
                seconds.append(time.process_time() - start)
            assert score.value is not None, score.reason
            print(f"{name:14} {side:5} {1e3 * min(seconds[1:]):9.1f} ms", flush=True)


if __name__ == "__main__":
    main()
