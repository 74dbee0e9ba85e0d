"""Extracts structure and codes of every HR crop, on Ray actors."""

from pathlib import Path

from pipeline.executor import ray_cluster
from pipeline.shards import Manifest
from pipeline.tokens import extract_set
from stages.stage import Stage, run_stage
from stages.workers import worker_count
from tvqrap.progress import progress

PAIRS = Path("data/pairs")
TOKENS = Path("data/tokens")
TOKENIZER = Path("models/tokenizer")


def extract_tokens(stage: Stage) -> None:
    """data/pairs, models/tokenizer -> data/tokens."""
    settings = stage.params.tokens
    manifests = {folder.name: Manifest.load(folder) for folder in sorted(PAIRS.iterdir())}
    total = sum(manifest.samples for manifest in manifests.values())
    with ray_cluster(), progress("extract_tokens", total=total, unit="sample") as advance:
        for name in manifests:
            manifest = extract_set(
                PAIRS / name,
                TOKENIZER,
                stage.scratch,
                settings,
                place="ray",
                workers=worker_count(on_ray=True),
                on_shard=advance,
            )
            print(
                f"{name}: {manifest.samples} samples, codes used "
                f"{manifest.extra['codes_used']:.1%}, perplexity "
                f"{manifest.extra['code_perplexity']:.1f}",
                flush=True,
            )
    stage.publish_sets(manifests, TOKENS)


if __name__ == "__main__":
    run_stage("extract_tokens", extract_tokens)
