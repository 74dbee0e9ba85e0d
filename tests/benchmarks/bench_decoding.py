"""PNG decoders on members as shards hold them: CPU time, and whether pixels are equal.

    python -m tests.benchmarks.bench_decoding

Each decoder gives uint8 (H, W, 3) RGB as a NumPy array. The decoders take turns, so that all meet
the same load. Those that are not installed are left out.
"""

import argparse
import io
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.shards.codec import decode_png, encode_png

Decoder = Callable[[bytes], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256, 512])
    parser.add_argument("--turns", type=int, default=40, help="of each decoder")
    parser.add_argument("--photos", type=Path, default=Path("data/photos"))
    given = parser.parse_args()
    image = Image.open(next(iter(sorted(given.photos.glob("*.jpg"))))).convert("RGB")
    found = decoders()
    for size in given.sizes:
        member = encode_png(np.array(image.resize((size, size))))
        differing = [
            name
            for name, decode in found.items()
            if not np.array_equal(decode(member), decode_png(member))
        ]
        times = milliseconds(found, member, given.turns)
        said = ", ".join(f"{name} {took:.3f} ms" for name, took in times.items())
        print(f"{size}x{size}: {said}; other pixels: {', '.join(differing) or 'none'}", flush=True)


def decoders() -> dict[str, Decoder]:
    """Decoders by name."""

    def by_pillow(payload: bytes) -> np.ndarray:
        with Image.open(io.BytesIO(payload), formats=["PNG"]) as image:
            return np.array(image)

    found: dict[str, Decoder] = {"Pillow": by_pillow, "OpenCV (decode_png)": decode_png}
    try:
        import torch
        from torchvision.io import ImageReadMode
        from torchvision.io import decode_png as by_torchvision

        found["torchvision"] = lambda payload: (
            by_torchvision(
                torch.frombuffer(bytearray(payload), dtype=torch.uint8), ImageReadMode.RGB
            )
            .permute(1, 2, 0)
            .contiguous()
            .numpy()
        )
    except ImportError:
        pass
    try:
        from torchcodec.decoders import decode_png as by_torchcodec

        found["torchcodec"] = lambda payload: (
            by_torchcodec(payload, mode="RGB").permute(1, 2, 0).contiguous().numpy()
        )
    except (ImportError, OSError, RuntimeError):
        pass
    return found


def milliseconds(found: dict[str, Decoder], member: bytes, turns: int) -> dict[str, float]:
    """CPU milliseconds of a decoding by each decoder, the medians of two in each turn."""
    took: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(turns):
        for name, decode in found.items():
            begun = time.thread_time()
            decode(member)
            decode(member)
            took[name].append((time.thread_time() - begun) / 2)
    return {name: 1e3 * float(np.median(each)) for name, each in took.items()}


if __name__ == "__main__":
    main()
