"""Named sets of pairs: HR crops of photographs with their degraded LR variants, in shards.

Every choice depends on the seed and on names alone (set, photograph, crop, variant). A set has the
same bytes whatever the number, kind or order of the workers.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.config import DataSettings, PairsSettings
from pipeline.executor.ledger import EarlierRuns, Ledger
from pipeline.executor.run import ExecutorKind
from pipeline.executor.shards import make_missing
from pipeline.executor.shared_storage import FilesProof, WrittenProof
from pipeline.pairs.card import save_set
from pipeline.pairs.crops import capacities
from pipeline.pairs.plan import crop_counts, plan_set
from pipeline.pairs.shard import PairMaker, PairShard
from pipeline.shards.index import save_table
from pipeline.shards.manifest import Manifest, Skipped, reason_counts, value_counts
from pipeline.sources.scan import PhotoScan
from pipeline.sources.scanned import ScannedPhotos
from pipeline.storage.lease import only_driver
from pipeline.storage.location import Location, resolved
from pipeline.teacher import Teacher

SKIPPED = "skipped.parquet"
NEAR_DUPLICATES = "near_duplicates.parquet"
LICENCES = "licences.parquet"


def make_set(
    name: str,
    pairs: PairsSettings,
    data: DataSettings,
    scan: PhotoScan,
    work: Location,
    *,
    executor: ExecutorKind,
    workers: int,
    teacher: Teacher | None = None,
    logs: Location | None = None,
    earlier: EarlierRuns = EarlierRuns(),  # noqa: B008  # frozen
    advance: Callable[[int], None] = lambda count: None,
    on_taken_over: Callable[[int], None] = lambda count: None,
) -> Manifest:
    """Make the set `name` in `work/name/`, shards and manifest, and return the manifest.

    `work` is a folder or a URL. `work/rows/name/` keeps a record of each finished shard, so that a
    later call with the same settings and photographs makes only the missing shards. Shards that
    `earlier` runs finished in other folders are taken over where plan and code are the same;
    `on_taken_over` gets their number. A set whose target is not the photograph alone needs a
    `teacher`. `logs/name` (`work/logs/name` if not given) gets a log of each run. `advance` gets
    the number of samples of each shard that is finished.
    Raises UserError for too few crops, failed shards, another driver on the set, and workers that
    see other photographs or storage, or are of two kinds.
    """
    work = resolved(work)
    out = work / name
    with only_driver(out, f"make_pairs into {out}") as check:
        chosen, small = _fitting(name, pairs, scan)
        maker = _maker(name, pairs, data, teacher, scan.usable, chosen, out)
        tasks = plan_set(
            name,
            pairs.seed,
            pairs.sets[name],
            scan.usable,
            chosen,
            pairs.shard_size,
            maker.decisive,
        )
        plans = {shard: tasks.plan(shard) for shard in tasks}
        ledger = Ledger(work, name, plans, PairShard, earlier, executor=executor, workers=workers)
        on_taken_over(ledger.taken_over)
        make_missing(
            ledger,
            maker,
            tasks,
            what=f"pairs.sets.{name}",
            logs=resolved(logs or work / "logs") / name,
            executor=executor,
            workers=workers,
            check=check,
            on_shard=lambda shard: advance(tasks.size(shard)),
        )
        check()
        skipped = sorted((*scan.skipped, *small), key=lambda entry: entry.name)
        extra = _save_tables(out, scan, pairs, skipped, tasks.photographs)
        manifest = _manifest(maker, pairs, ledger.shards, reason_counts(skipped), extra)
        save_set(out, manifest, check)
        return manifest


def _save_tables(
    out: Location,
    scan: PhotoScan,
    pairs: PairsSettings,
    skipped: Sequence[Skipped],
    photographs: NDArray[np.integer[Any]],
) -> dict[str, Any]:
    """Writes the tables of photographs beside the shards; returns their counts."""
    near = scan.near_duplicates(pairs)
    extra: dict[str, Any] = {"photographs": len(photographs), "near_duplicates": len(near)}
    save_table(out / SKIPPED, _columns(_SKIPPED_ROWS, map(astuple, skipped)))
    save_table(out / NEAR_DUPLICATES, _columns(_NEAR_ROWS, near))
    if scan.licences is not None:
        licences = scan.licences.take(photographs)
        save_table(out / LICENCES, licences)
        extra |= _licence_counts(licences)
    return extra


def check_counts(pairs: PairsSettings, scan: PhotoScan) -> None:
    """Raises UserError for the first set for which the photographs do not give enough crops."""
    for name, settings in pairs.sets.items():
        crop_counts(name, settings, scan.usable, _fitting(name, pairs, scan)[0])


def _maker(
    name: str,
    pairs: PairsSettings,
    data: DataSettings,
    teacher: Teacher | None,
    photos: ScannedPhotos,
    chosen: NDArray[np.int64],
    out: Location,
) -> PairMaker:
    """The maker of a set's shards in the folder `out`, from the chosen photographs."""
    settings = pairs.sets[name]
    some = chosen[:: max(1, len(chosen) // 64)].tolist()  # more than the proof takes
    return PairMaker(
        name=name,
        seed=pairs.seed,
        data=data,
        settings=settings,
        degradations={preset: pairs.degradations[preset] for preset in settings.presets},
        teacher=None if settings.target == "photo" else teacher,
        out=out,
        photos=FilesProof.of(
            Path(data.photos).resolve(),
            [photos.locators[number] or photos.names[number] for number in some],
        ),
        storage=WrittenProof.beside(out),
    )


def _fitting(
    name: str, pairs: PairsSettings, scan: PhotoScan
) -> tuple[NDArray[np.int64], list[Skipped]]:
    """Numbers of the split's photographs that have crops for the set; those that are too small."""
    settings, photos = pairs.sets[name], scan.usable
    of_split = scan.splits(pairs)[settings.split]
    fits = (
        capacities(
            settings.crop_mode, photos.widths[of_split], photos.heights[of_split], settings.size
        )
        > 0
    )
    small = [
        Skipped(
            photos.names[number],
            f"{photos.widths[number]}x{photos.heights[number]} pixels, too small for "
            f"{settings.crop_mode} {settings.size}",
        )
        for number in of_split[~fits].tolist()
    ]
    return of_split[fits], small


def _manifest(
    maker: PairMaker,
    pairs: PairsSettings,
    shards: Sequence[PairShard],
    skipped: dict[str, int],
    extra: dict[str, Any],
) -> Manifest:
    return Manifest(
        kind="pairs",
        set=maker.name,
        params=_params(maker, pairs),
        shards=tuple(shard.row for shard in shards),
        skipped=skipped,
        extra={**extra, "machine": asdict(shards[0].machine)},
    )


def _licence_counts(licences: Any) -> dict[str, Any]:
    """Numbers of photographs by licence, and by source where any is known."""
    counts = {"licences": value_counts(_texts(licences["licence"]), "other licences")}
    if licences["source"].null_count < len(licences):
        counts["sources"] = value_counts(_texts(licences["source"]), "other sources")
    return counts


def _texts(column: Any) -> list[str]:
    return [text or "unknown" for text in column.to_pylist()]


_SKIPPED_ROWS = pa.schema([("name", pa.string()), ("reason", pa.string())])
_NEAR_ROWS = pa.schema(
    [("first", pa.string()), ("second", pa.string()), ("different_bits", pa.int32())]
)


def _columns(schema: Any, rows: Iterable[tuple[Any, ...]]) -> Any:
    """An Arrow table of these rows."""
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    return pa.table([list(column) for column in columns], schema=schema)


def _params(maker: PairMaker, pairs: PairsSettings) -> dict[str, object]:
    """The params that made a set, for its manifest."""
    teacher = maker.teacher
    return {
        "data": maker.data.model_dump(mode="json"),
        "seed": pairs.seed,
        "split_seed": pairs.split_seed,
        "splits": pairs.splits.model_dump(mode="json"),
        "shard_size": pairs.shard_size,
        "settings": maker.settings.model_dump(mode="json"),
        "degradations": {
            name: chosen.model_dump(mode="json") for name, chosen in maker.degradations.items()
        },
        "teacher": teacher and teacher.fingerprint,
        **({"teacher_precision": teacher.precision} if teacher else {}),
    }
