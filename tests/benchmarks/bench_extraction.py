"""Extraction workers against the bare encoder on the same images, as ratios of throughput.

    python -m tests.benchmarks.bench_extraction --workers 1 2

Each worker process takes turns: a shard through the bare encoder (crops decoded beforehand, nothing
written), then the same shard through the whole extraction (read, checked, decoded, encoded,
written, hashed). Workers start each turn together, so that both sides of a ratio meet the same
load.
"""

import argparse
import multiprocessing
import time
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image

from pipeline.config import TokensSettings
from pipeline.executor.shared_storage import WrittenProof
from pipeline.shards.codec import encode_png
from pipeline.shards.manifest import Manifest, shard_name
from pipeline.shards.tar import Sample, read_shard, write_shard
from pipeline.tokens.encode import Encoder, batches, pair_images
from pipeline.tokens.shard import Extractor
from tvqrap.architecture import Architecture
from tvqrap.networks.tokenizer import Tokenizer
from tvqrap.pretrained.folder import read_config, save_model


@dataclass(frozen=True)
class Turn:
    """One shard, both ways."""

    bare: float
    """Seconds of the bare encoder."""
    extraction: float
    """Seconds of the extraction."""
    bare_cpu: float
    """CPU seconds, all threads of the process."""
    extraction_cpu: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--width", type=float, default=1.0, help="1.0 is the paper's network")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--crops", type=int, default=32, help="in a shard")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--turns", type=int, default=3, help="shards of each worker")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--photos", type=Path, default=Path("data/photos"))
    given = parser.parse_args()
    settings = TokensSettings(
        device=given.device, batch_size=given.batch, threads=given.threads, gpus=1.0, storage=None
    )
    with TemporaryDirectory() as temporary:
        root = Path(temporary)
        make_pairs(root / "pairs", given.photos, given.size, given.crops, given.turns)
        architecture = Architecture(given.width, 1024, 8, 32)
        save_model(root / "tokenizer", "tokenizer", Tokenizer(architecture), architecture, {})
        for count in given.workers:
            report(count, given.crops, side_by_side(root, settings, count))


def make_pairs(folder: Path, photos: Path, size: int, crops: int, shards: int) -> None:
    """Shards of random crops of photographs, with two LR images each."""
    rng = np.random.default_rng(0)
    images = [Image.open(path).convert("RGB") for path in sorted(photos.glob("*.jpg"))[:8]]
    rows = []
    for shard in range(shards):
        samples = []
        for crop in range(crops):
            image = images[rng.integers(len(images))]
            left, top = (int(rng.integers(max(1, side - size))) for side in image.size)
            hr = image.crop((left, top, left + size, top + size))
            lr = encode_png(np.asarray(hr.resize((size // 4, size // 4))))
            members = {"hr.png": encode_png(np.asarray(hr)), "lr0.png": lr, "lr1.png": lr}
            samples.append(Sample(f"s{shard}_{crop:05d}", members))
        rows.append(write_shard(folder / shard_name(shard), samples))
    Manifest("pairs", folder.name, {"settings": {"variants": 2}}, tuple(rows)).save(folder)


def side_by_side(root: Path, settings: TokensSettings, workers: int) -> list[list[Turn]]:
    """Turns of each of several worker processes."""
    context = multiprocessing.get_context("spawn")
    together, results = context.Barrier(workers), context.SimpleQueue()
    processes = [
        context.Process(target=work, args=(root, settings, number, together, results))
        for number in range(workers)
    ]
    for process in processes:
        process.start()
    turns = [results.get() for _ in processes]
    for process in processes:
        process.join()
    return turns


def work(
    root: Path,
    settings: TokensSettings,
    number: int,
    together: Barrier,
    results: "multiprocessing.SimpleQueue[list[Turn]]",
) -> None:
    """Body of a worker process."""
    manifest = Manifest.load(root / "pairs")
    extractor = Extractor(
        tokenizer=root / "tokenizer",
        fingerprint=read_config(root / "tokenizer").fingerprint,
        pairs=root / "pairs",
        pairs_root=manifest.root,
        out=root / f"tokens{number}",
        quarantine=root / "quarantine",
        settings=settings,
        storage=WrittenProof.beside(root / f"tokens{number}"),
    )
    _, extract = extractor()
    encoder = Encoder(extractor.tokenizer, extractor.fingerprint, settings)
    multiple = encoder.architecture.hr_multiple
    turns = []
    with torch.inference_mode():
        for index, row in enumerate((manifest.shards[0], *manifest.shards)):
            pairs = read_shard(root / "pairs" / row.name)
            decoded = list(
                batches(
                    pairs,
                    settings.batch_size,
                    multiple=multiple,
                    images=pair_images(manifest),
                    on_bad=lambda sample, error: None,
                )
            )
            together.wait()
            start = (time.perf_counter(), time.process_time())
            for batch in decoded:
                encoder(batch)
            middle = (time.perf_counter(), time.process_time())
            del decoded
            together.wait()
            again = (time.perf_counter(), time.process_time())
            extract(row)
            end = (time.perf_counter(), time.process_time())
            if index:  # the first turn warms up
                turns.append(
                    Turn(
                        middle[0] - start[0],
                        end[0] - again[0],
                        middle[1] - start[1],
                        end[1] - again[1],
                    )
                )
    results.put(turns)


def report(workers: int, crops: int, turns: list[list[Turn]]) -> None:
    """Prints crops per second of all workers together, and the ratios."""
    bare, extraction, bare_cpu, extraction_cpu = (
        sum(getattr(turn, name) for each in turns for turn in each)
        for name in ("bare", "extraction", "bare_cpu", "extraction_cpu")
    )
    done = crops * sum(len(each) for each in turns)
    print(
        f"{workers} worker{'s' if workers > 1 else ''}: bare encoder {workers * done / bare:.3f} "
        f"crops/s, extraction {workers * done / extraction:.3f} crops/s: {bare / extraction:.1%}; "
        f"CPU {1e3 * bare_cpu / done:.0f} and {1e3 * extraction_cpu / done:.0f} ms per crop: "
        f"{bare_cpu / extraction_cpu:.1%}",
        flush=True,
    )


if __name__ == "__main__":
    main()
