"""The extraction of a token data set: each pair shard becomes a token shard, exactly once.

A token shard has its pair shard's name and keys. Tokens depend on the HR crop alone, so one
extraction serves every LR variant. The variants are carried along, so that stage 2 reads the token
data set alone. Per shard and in total, samples in are samples out and samples dropped.
"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from pipeline.config import TokensSettings
from pipeline.executor.ledger import EarlierRuns, Ledger
from pipeline.executor.run import ExecutorKind
from pipeline.executor.shards import make_missing
from pipeline.executor.shared_storage import WrittenProof
from pipeline.pairs.card import CARRIED, save_set
from pipeline.shards.manifest import Manifest
from pipeline.storage.lease import only_driver
from pipeline.storage.location import Location, file_sizes, resolved, written
from pipeline.tokens.check import code_statistics
from pipeline.tokens.quarantine import sweep_quarantine
from pipeline.tokens.shard import IN_FLIGHT, ExtractedShard, Extractor, check_complete, plan_of
from pipeline.tokens.statistics import save_tables, statistics_of
from tvqrap.pretrained.folder import ModelConfig, read_config
from tvqrap.runtime.errors import UserError


def extract_set(
    pairs: Location,
    tokenizer: Path,
    work: Location,
    settings: TokensSettings,
    *,
    executor: ExecutorKind,
    workers: int,
    quarantine: Location | None = None,
    logs: Location | None = None,
    tables: Path | None = None,
    earlier: EarlierRuns = EarlierRuns(),  # noqa: B008  # frozen
    on_shard: Callable[[int], None] = lambda samples: None,
    on_taken_over: Callable[[int], None] = lambda count: None,
) -> Manifest:
    """Extracts the tokens of one set into `work/SET`, and resumes with the shards finished there.

    `work` is a folder or a URL that all workers see. `work/rows/SET` keeps a record of each
    finished shard; one of other pairs, another tokenizer or other settings does not count. Shards
    that `earlier` runs finished in other folders are taken over where plan and code are the same.
    Shards with dropped samples are not, as this run's quarantine has to hold those. `on_taken_over`
    gets their number. `on_shard` gets the number of samples of each finished shard, dropped ones
    included. Samples that cannot be used are kept in `quarantine/SET` (`work/quarantine/SET` if not
    given) and listed in the manifest. Each run leaves a log in `logs/SET` (`work/logs/SET`).
    `tables` is a folder for tables of the codes, see `save_tables`. Raises `ShardsFailed` that
    lists the shards that failed. Raises `UserError` for another driver on the set, and for workers
    that see other storage or are of two kinds.
    """
    source = _named_source(pairs)
    work = resolved(work)
    out = work / source.set
    with only_driver(out, f"the extraction into {out}") as check:
        extractor = _extractor(pairs, source, tokenizer, work, quarantine, settings)
        ledger = _ledger(work, source, extractor, earlier, executor, workers)
        on_taken_over(ledger.taken_over)
        shards = _extract(
            ledger,
            extractor,
            source,
            logs=resolved(logs or work / "logs") / source.set,
            executor=executor,
            workers=workers,
            check=check,
            on_shard=on_shard,
        )
        if tables is not None:
            histograms = np.array([shard.code_counts for shard in shards], dtype=np.int64)
            rows = [shard.row for shard in shards]
            save_tables(statistics_of(rows, histograms), tables, source.set)
        manifest = _manifest(source, read_config(tokenizer), settings, shards)
        check()
        save_set(out, manifest, check)
    return manifest


def _extractor(
    pairs: Location,
    source: Manifest,
    tokenizer: Path,
    work: Location,
    quarantine: Location | None,
    settings: TokensSettings,
) -> Extractor:
    """The maker of the token shards of a set of pairs, in its folder in `work`."""
    out = work / source.set
    return Extractor(
        _shared(tokenizer, work),
        read_config(tokenizer).fingerprint,
        resolved(source.home(pairs)),
        source.root,
        out,
        resolved(quarantine or work / "quarantine") / source.set,
        settings,
        storage=WrittenProof.beside(out),
    )


def _ledger(
    work: Location,
    source: Manifest,
    extractor: Extractor,
    earlier: EarlierRuns,
    executor: ExecutorKind,
    workers: int,
) -> Ledger[ExtractedShard]:
    """The ledger of the token shards of a set of pairs; shards without drops are taken over."""
    return Ledger(
        work,
        source.set,
        {row.name: plan_of(extractor, row) for row in source.shards},
        ExtractedShard,
        earlier,
        take=lambda shard: not shard.dropped,
        executor=executor,
        workers=workers,
    )


def _extract(
    ledger: Ledger[ExtractedShard],
    extractor: Extractor,
    source: Manifest,
    *,
    logs: Location,
    executor: ExecutorKind,
    workers: int,
    check: Callable[[], None],
    on_shard: Callable[[int], None],
) -> list[ExtractedShard]:
    """Extracts the shards that the ledger lacks, and returns all of them in order."""
    # Before the run as well, so that a run that fails leaves only its own samples there.
    sweep_quarantine(extractor.quarantine, _dropped(ledger))
    rows = {row.name: row for row in source.shards}
    settings = extractor.settings
    make_missing(
        ledger,
        extractor,
        rows,
        what=str(extractor.pairs),
        logs=logs,
        executor=executor,
        workers=workers,
        check=check,
        on_shard=lambda name: on_shard(rows[name].samples),
        cpus=settings.threads,
        gpus=settings.gpus if settings.device == "cuda" else 0.0,
        in_flight=IN_FLIGHT,
    )
    sweep_quarantine(extractor.quarantine, _dropped(ledger))
    check_complete(extractor.pairs, source.samples, ledger.shards)
    return ledger.shards


def _named_source(pairs: Location) -> Manifest:
    """The manifest of a set of pairs, whose folder bears the set's name.

    Token shards go to a folder of that name: a manifest must not choose another one.
    """
    source = Manifest.load(pairs)
    if resolved(pairs).name != source.set:
        raise UserError(
            f"{pairs}: its manifest describes a set called {source.set}, expected a folder of that "
            "name"
        )
    return source


def _shared(tokenizer: Path, work: Location) -> Location:
    """The model folder where workers read it: as it is, or in the store that the tokens go to."""
    if isinstance(work, Path):
        return tokenizer.resolve()
    folder = work / "tokenizer" / read_config(tokenizer).fingerprint
    present = file_sizes(folder)
    for name, size in file_sizes(tokenizer).items():
        if present.get(name) != size:
            with written(folder / name) as file:
                file.write((tokenizer / name).read_bytes())
    return folder


def _dropped(ledger: Ledger[ExtractedShard]) -> set[str]:
    """Keys of the samples that are not in the finished shards."""
    return {dropped.name for shard in ledger.done.values() for dropped in shard.dropped}


def _manifest(
    source: Manifest, tokenizer: ModelConfig, settings: TokensSettings, shards: list[ExtractedShard]
) -> Manifest:
    return Manifest(
        kind="tokens",
        set=source.set,
        params=source.params,
        shards=tuple(shard.row for shard in shards),
        skipped=source.skipped,
        extra={
            "tokenizer": tokenizer.fingerprint,
            "architecture": tokenizer.architecture.to_dict(),
            "pairs": source.root,
            **{key: source.extra[key] for key in CARRIED if key in source.extra},
            "precision": "float32",
            "device": settings.device,
            **({"machine": asdict(shards[0].machine)} if shards else {}),
            "batch": settings.batch_size,
            "threads": settings.threads,
            "samples_in": source.samples,
            "dropped": [
                {"shard": shard.row.name, "key": dropped.name, "reason": dropped.reason}
                for shard in shards
                for dropped in shard.dropped
            ],
            **code_statistics(np.sum([shard.code_counts for shard in shards], axis=0)),
        },
    )
