"""Extracts structure and codes of every HR crop, by default on Ray actors."""

from pathlib import Path

from pipeline.executor.run import connected
from pipeline.executor.shards import ShardsFailed
from pipeline.shards.manifest import Manifest, sets_in
from pipeline.tokens.extract import extract_set
from stages.runner.executor import chosen_executor
from stages.runner.publish import publish, publish_sets
from stages.runner.stage import Stage, run_stage
from tvqrap.runtime.errors import UserError
from tvqrap.runtime.progress import progress
from tvqrap.runtime.text import printable

PAIRS = Path("data/pairs")
TOKENS = Path("data/tokens")
TOKENIZER = Path("models/tokenizer")
CURVES = Path("curves/tokens")
TABLES = ("codes", "drift")


def extract_tokens(stage: Stage) -> None:
    """data/pairs, models/tokenizer -> data/tokens, curves/tokens.

    Unusable samples go to `.scratch/quarantine`, logs of the shards to `.scratch/logs`. Both
    outlive the stage; with `tokens.storage` they lie beside the data set.
    """
    settings = stage.params.tokens
    manifests = {folder.name: Manifest.load(folder) for folder in sets_in(PAIRS)}
    total = sum(manifest.samples for manifest in manifests.values())
    work, earlier = stage.work(settings.storage), stage.earlier_runs(settings.storage)
    taken_over: list[int] = []
    quarantine = stage.outlasting("quarantine", settings.storage)
    curves = stage.scratch / "curves"
    executor = chosen_executor("ray")
    failures: list[str] = []
    with (
        connected(executor.kind),
        progress("extract_tokens", total=total, unit="sample") as advance,
    ):
        for name in manifests:
            try:
                manifest = extract_set(
                    PAIRS / name,
                    TOKENIZER,
                    work,
                    settings,
                    executor=executor.kind,
                    workers=executor.count,
                    quarantine=quarantine,
                    logs=stage.outlasting("logs", settings.storage),
                    tables=curves,
                    earlier=earlier,
                    on_shard=advance,
                    on_taken_over=taken_over.append,
                )
            except ShardsFailed as error:
                failures.append(str(error))
                continue
            stage.refer_to(manifest, work)
            print(
                f"{name}: {manifest.samples} samples in {len(manifest.shards)} shards, "
                f"{taken_over[-1]} of them made by earlier runs; codes used "
                f"{manifest.extra['codes_used']:.1%}, perplexity "
                f"{manifest.extra['code_perplexity']:.1f}",
                flush=True,
            )
            if dropped := manifest.extra["dropped"]:
                print(f"{name}: {len(dropped)} samples dropped, kept in {quarantine / name}:")
                for sample in dropped:
                    line = f"  {sample['key']} ({sample['shard']}): {sample['reason']}"
                    print(printable(line), flush=True)
    if failures:
        raise UserError("; ".join(failures))
    for name in TABLES:
        (curves / name).mkdir(parents=True, exist_ok=True)  # sets of one shard have no drift
        publish(curves / name, CURVES / name)
    publish_sets([stage.scratch / name for name in manifests], TOKENS, {})
    stage.keep_sets(settings.storage)


if __name__ == "__main__":
    run_stage("extract_tokens", extract_tokens)
