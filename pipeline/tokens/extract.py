"""The extraction of a token data set: each pair shard becomes a token shard, exactly once.

A token shard has its pair shard's name and keys. Tokens depend on the HR crop alone, so one
extraction serves every LR variant; the variants are carried along, so that stage 2 reads nothing
but the token data set. Per shard and in total, samples in are samples out and samples dropped.
"""

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from pipeline.config import TokensSettings
from pipeline.executor.run import ExecutorKind, run_tasks
from pipeline.executor.run_log import run_log
from pipeline.executor.shared_storage import WrittenProof
from pipeline.shards.manifest import Manifest, ShardRow, Skipped, is_intact
from pipeline.storage.lease import Check, only_driver
from pipeline.storage.location import (
    Location,
    StorageError,
    file_sizes,
    make_folder,
    remove,
    resolved,
    write_text,
    written,
)
from pipeline.tokens.check import code_statistics
from pipeline.tokens.quarantine import sweep_quarantine
from pipeline.tokens.shard import ExtractedShard, Extractor, plan_of
from pipeline.tokens.statistics import save_tables, statistics_of
from tvqrap.pretrained.folder import ModelConfig, read_config
from tvqrap.runtime.errors import UserError
from tvqrap.runtime.hardware import Machine

log = logging.getLogger(__name__)


class ShardsFailed(UserError):
    """Some shards of a set could not be made; the message lists them. The others are finished."""


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
    on_shard: Callable[[int], None] = lambda samples: None,
) -> Manifest:
    """Extracts the tokens of one set into `work/SET`, going on from the shards finished there.

    `work` is a folder or a URL that all workers see. `work/rows/SET` keeps a row for each finished
    shard; one of other pairs, another tokenizer or other settings counts for nothing. `on_shard`
    hears of each finished shard's samples, dropped ones included. Samples that cannot be used are
    kept in `quarantine/SET` (`work/quarantine/SET` if not given) and listed in the manifest; each
    run leaves a log in `logs/SET` (`work/logs/SET`).
    `tables` is a folder for tables of the codes, see `save_tables`.
    Raises `ShardsFailed` that lists the shards that failed, and `UserError` where another driver
    is at work on the set, where a worker sees other storage, or where workers are of two kinds.
    """
    source = Manifest.load(pairs)
    work = resolved(work)
    with only_driver(work / source.set, f"the extraction into {work / source.set}") as check:
        shards = _extract_set(
            source,
            Extractor(
                _shared(tokenizer, work),
                read_config(tokenizer).fingerprint,
                resolved(source.home(pairs)),
                source.root,
                work / source.set,
                resolved(quarantine or work / "quarantine") / source.set,
                settings,
                storage=WrittenProof.beside(work / source.set),
            ),
            work / "rows" / source.set,
            resolved(logs or work / "logs") / source.set,
            executor,
            workers,
            on_shard,
            check,
        )
        if tables is not None:
            histograms = np.array([shard.code_counts for shard in shards], dtype=np.int64)
            found = statistics_of([shard.row for shard in shards], histograms)
            save_tables(found, tables, source.set)
        manifest = _manifest(source, read_config(tokenizer), settings, shards)
        check()
        manifest.save(work / source.set)
        return manifest


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


def _extract_set(
    source: Manifest,
    extractor: Extractor,
    rows: Location,
    logs: Location,
    executor: ExecutorKind,
    workers: int,
    on_shard: Callable[[int], None],
    check: Check,
) -> list[ExtractedShard]:
    for folder in (extractor.out, rows):
        make_folder(folder)
    done: dict[str, ExtractedShard] = {}
    met: set[Machine] = set()
    sizes = file_sizes(extractor.out)
    for row in source.shards:
        finished = _finished(_row_file(rows, row), extractor, row, sizes)
        # Of two kinds of machines, which a killed run can leave, the first one's shards are kept.
        if finished is not None and met <= {finished.machine}:
            met.add(finished.machine)
            done[row.name] = finished
            on_shard(row.samples)
    heard = set(done)
    met.clear()
    _sweep(extractor.out, done)
    _sweep(rows, (_row_file(rows, row).name for row in source.shards if row.name in done))
    # Here, and not only at the end, so that what a run that fails leaves is of that run.
    sweep_quarantine(extractor.quarantine, _dropped(done.values()))

    def keep(expected: ShardRow, shard: ExtractedShard) -> None:
        check()
        _check_machine(extractor.out, expected, shard, met, done)
        _check_complete(extractor.pairs / expected.name, expected.samples, [shard])
        write_text(_row_file(rows, expected), json.dumps(asdict(shard)))
        done[expected.name] = shard
        if expected.name not in heard:
            on_shard(expected.samples)

    def make(missing: list[ShardRow]) -> None:
        names = [row.name for row in missing]
        with run_log(logs) as tries:
            failures = run_tasks(
                extractor,
                missing,
                executor=executor,
                workers=workers,
                on_result=lambda index, shard: keep(missing[index], shard),
                on_attempt=lambda attempt: tries.add(names[attempt.index], attempt),
                **_demand(extractor.settings),
            )
        if failures:
            raise ShardsFailed(f"{extractor.pairs}: {tries.failed(failures, names, len(names))}")

    # A second time only where the first turned out to run on other machines than an earlier run.
    while missing := [row for row in source.shards if row.name not in done]:
        make(missing)
    # Workers that died in this run leave files too, whose bytes another has made since.
    _sweep(extractor.out, done)
    sweep_quarantine(extractor.quarantine, _dropped(done.values()))
    shards = [done[row.name] for row in source.shards]
    _check_complete(extractor.pairs, source.samples, shards)
    return shards


def _demand(settings: TokensSettings) -> dict[str, float]:
    """CPUs and GPUs of one worker."""
    gpus = settings.gpus if settings.device == "cuda" else 0.0
    return {"cpus": settings.threads, "gpus": gpus}


def _dropped(shards: Iterable[ExtractedShard]) -> set[str]:
    """Keys of the samples that are not in the token shards."""
    return {lost.name for shard in shards for lost in shard.dropped}


def _check_machine(
    out: Location,
    made: ShardRow,
    shard: ExtractedShard,
    met: set[Machine],
    done: dict[str, ExtractedShard],
) -> None:
    """Raises `UserError` where the workers of this run are of two kinds.

    `met` is what they have been so far. Shards that an earlier run `done` on another kind are
    struck off as the first one of this run tells what its kind is.
    """
    if not met:
        met.add(shard.machine)
        others = {name: old for name, old in done.items() if old.machine != shard.machine}
        for name in others:
            del done[name]
        if others:
            log.warning(
                "%s: %d shards of an earlier run were made on %s, this one's are on %s: they are "
                "made again",
                out,
                len(others),
                next(iter(others.values())).machine,
                shard.machine,
            )
    if met != {shard.machine}:
        raise UserError(
            f"{out / made.name}: made on {shard.machine}, the others of this run on "
            f"{', '.join(map(str, met))}; expected workers of one kind, because another kind may "
            "choose other codes"
        )


def _manifest(
    source: Manifest, tokenizer: ModelConfig, settings: TokensSettings, shards: list[ExtractedShard]
) -> Manifest:
    return Manifest(
        kind="tokens",
        set=source.set,
        params=source.params,
        shards=tuple(shard.row for shard in shards),
        lost=source.lost,
        extra={
            "tokenizer": tokenizer.fingerprint,
            "architecture": tokenizer.architecture.to_dict(),
            "pairs": source.root,
            "precision": "float32",
            "device": settings.device,
            **({"machine": asdict(shards[0].machine)} if shards else {}),
            "batch": settings.batch_size,
            "threads": settings.threads,
            "samples_in": source.samples,
            "dropped": [
                {"shard": shard.row.name, "key": lost.name, "reason": lost.reason}
                for shard in shards
                for lost in shard.dropped
            ],
            **code_statistics(np.sum([shard.code_counts for shard in shards], axis=0)),
        },
    )


def _check_complete(path: Location, expected: int, shards: Iterable[ExtractedShard]) -> None:
    found = [(shard.row.samples, len(shard.dropped)) for shard in shards]
    out, dropped = sum(row[0] for row in found), sum(row[1] for row in found)
    if out + dropped != expected:
        raise UserError(
            f"{path}: {out} samples extracted and {dropped} dropped, its manifest says {expected}"
        )


def _row_file(rows: Location, row: ShardRow) -> Location:
    return rows / f"{row.name}.json"


def _finished(
    row: Location, extractor: Extractor, source: ShardRow, sizes: Mapping[str, int]
) -> ExtractedShard | None:
    """What an earlier run left of a shard, if it is whole and of the same plan."""
    try:
        content = json.loads(row.read_bytes())
        if content["row"]["plan"] != plan_of(extractor, source):
            return None
        finished = ExtractedShard(
            ShardRow(**content["row"]),
            tuple(content["code_counts"]),
            tuple(Skipped(**lost) for lost in content["dropped"]),
            Machine(**content["machine"]),
        )
        whole = is_intact(extractor.out / source.name, finished.row, sizes)
    except StorageError:
        raise
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return finished if whole else None


def _sweep(folder: Location, kept: Iterable[str]) -> None:
    """Removes the files of dead writers and of other plans; there is only one driver."""
    for name in file_sizes(folder).keys() - set(kept):
        remove(folder / name)
