"""Share of an extraction's time that the encoder is busy, with a slow store simulated.

    python -m tests.benchmarks.bench_store

Fetching a shard takes `--fetch` seconds, putting one `--put`, encoding one `--encode`, all spent
asleep: other load on the machine matters little. All else is the extraction of a worker. One shard
at a time is measured first; a worker has `IN_FLIGHT`. The share counts from the first shard's
encoding to the last one's end. Its floor is what three stages at once can reach: all of it, where
encoding takes longer than each other stage.
"""

import argparse
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from pipeline.config import TokensSettings
from pipeline.executor.code_digest import code_digest
from pipeline.executor.shared_storage import WrittenProof
from pipeline.executor.worker import Worker
from pipeline.shards.manifest import Manifest, ShardRow
from pipeline.storage.location import Url
from pipeline.tokens import encode
from pipeline.tokens.shard import IN_FLIGHT, ExtractedShard, Extractor
from tests.benchmarks.bench_loader import write_set
from tvqrap.architecture import Architecture
from tvqrap.networks.tokenizer import Tokenizer
from tvqrap.pretrained.folder import read_config, save_model

ARCHITECTURE = Architecture(width=0.0625, codebook=16, texture=4, structure=8)
SETTINGS = TokensSettings(device="cpu", batch_size=4, threads=1, gpus=1.0, storage=None)


@dataclass(frozen=True)
class SlowStore(Url):
    """A store in memory that takes its time with shards."""

    fetch: float = 0.0
    put: float = 0.0

    def __truediv__(self, name: str) -> "SlowStore":
        return SlowStore(f"{self.text}/{name}", self.fetch, self.put)

    def read_bytes(self) -> bytes:
        """The content, after a while if it is a shard."""
        time.sleep(self.fetch if self.name.endswith(".tar") else 0)
        return super().read_bytes()

    def write_bytes(self, content: bytes) -> None:
        """Puts the content there, after a while if it is a shard."""
        time.sleep(self.put if self.name.endswith(".tar") else 0)
        super().write_bytes(content)


class SleepingEncoder(encode.Encoder):
    """An encoder that sleeps for as long as it would compute."""

    seconds = 0.0
    """For a batch."""
    spans: list[tuple[float, float]]

    def __call__(self, batch: list[encode.Crop]) -> tuple[Any, Any]:
        begun = time.monotonic()
        side = batch[0].hr.shape[0]
        structure = np.zeros((len(batch), 4, side // 8, side // 8), np.float32)
        codes = np.zeros((len(batch), side // 4, side // 4), np.int64)
        time.sleep(max(0.0, begun + self.seconds - time.monotonic()))
        self.spans.append((begun, time.monotonic()))
        return structure, codes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fetch", type=float, default=1.0, help="seconds to fetch a shard")
    parser.add_argument("--put", type=float, default=0.3, help="seconds to put a shard")
    parser.add_argument("--encode", type=float, default=1.2, help="seconds to encode a shard")
    parser.add_argument("--shards", type=int, default=20)
    parser.add_argument("--samples", type=int, default=16, help="in a shard")
    parser.add_argument("--size", type=int, default=64, help="side of an HR crop")
    given = parser.parse_args()
    with TemporaryDirectory() as temporary:
        tokenizer = Path(temporary) / "tokenizer"
        save_model(tokenizer, "tokenizer", Tokenizer(ARCHITECTURE), ARCHITECTURE, {})
        store = SlowStore(f"memory://{uuid.uuid4().hex}", given.fetch, given.put)
        pairs = Url(f"{store}/pairs")  # written without waiting
        manifest = write_set(pairs, given.shards, given.samples, given.size)
        SleepingEncoder.seconds = given.encode * SETTINGS.batch_size / given.samples
        encode.Encoder = SleepingEncoder  # type: ignore[misc]
        for in_flight in (1, IN_FLIGHT):
            SleepingEncoder.spans = []
            out = store / f"tokens{in_flight}"
            extract(store / "pairs", out, tokenizer, manifest, in_flight)
            report(in_flight, SleepingEncoder.spans)


def extract(pairs: Url, out: Url, tokenizer: Path, manifest: Manifest, in_flight: int) -> None:
    """Extracts all shards with one worker that has `in_flight` at once."""
    extractor = Extractor(
        tokenizer=tokenizer,
        fingerprint=read_config(tokenizer).fingerprint,
        pairs=pairs,
        pairs_root=manifest.root,
        out=out,
        quarantine=out / "quarantine",
        settings=SETTINGS,
        storage=WrittenProof.beside(out),
    )
    worker: Worker[ShardRow, ExtractedShard] = Worker(extractor, code_digest())
    with ThreadPoolExecutor(in_flight) as pool:
        for outcome in pool.map(worker.run, manifest.shards):
            assert outcome.result is not None, outcome


def report(in_flight: int, spans: list[tuple[float, float]]) -> None:
    """Prints the share of the time that the encoder was busy."""
    busy = sum(end - begun for begun, end in spans)
    total = spans[-1][1] - spans[0][0]
    print(
        f"{in_flight} shard{'s' if in_flight > 1 else ''} at once: {total:.1f} s, the encoder is "
        f"busy {busy / total:.1%} of it",
        flush=True,
    )


if __name__ == "__main__":
    main()
