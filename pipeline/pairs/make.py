"""Named sets of pairs: HR crops of photographs with their degraded LR variants, in shards.

Every choice depends on the seed and on names alone (set, photograph, crop, variant). A set has the
same bytes whatever the number, kind or order of the workers.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.config import DataSettings, PairsSettings
from pipeline.executor.ledger import EarlierRuns, Ledger
from pipeline.executor.run import ExecutorKind
from pipeline.executor.shards import make_missing
from pipeline.executor.shared_storage import FilesProof, WrittenProof
from pipeline.pairs.crops import capacities
from pipeline.pairs.plan import crop_counts, plan_set
from pipeline.pairs.shard import PairMaker, PairShard
from pipeline.shards.manifest import Manifest, Skipped
from pipeline.sources.scan import PhotoScan
from pipeline.sources.scanned import ScannedPhotos
from pipeline.storage.lease import only_driver
from pipeline.storage.location import Location, resolved
from pipeline.teacher import Teacher


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

    `work` is a folder or a URL. `work/rows/name/` keeps a record of each finished shard: a later
    call with the same settings and photographs makes the missing shards alone, and leaves the same
    bytes. Shards that `earlier` runs finished in other folders are taken over where plan and code
    are the same; `on_taken_over` hears their number. `teacher` is needed by a set whose target is
    not the photograph alone. `logs/name` (`work/logs/name` if not given) gets a log of each run.
    `advance` hears the number of samples in each shard as it is finished or found finished.
    UserError where the photographs do not give enough crops, where shards fail, where another
    driver works on the set, where a worker sees other photographs or other storage, or where
    workers are of two kinds.
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
        ledger = Ledger(work, name, plans, PairShard, earlier)
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
        manifest = _manifest(maker, pairs, scan, small, ledger.shards, tasks.photographs)
        check()
        manifest.save(out)
        check()  # a folder that vanished just now has been made anew, with the manifest alone
        return manifest


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
            Path(data.photos).resolve(), [photos.names[number] for number in some]
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
    scan: PhotoScan,
    small: Sequence[Skipped],
    shards: Sequence[PairShard],
    photographs: int,
) -> Manifest:
    return Manifest(
        kind="pairs",
        set=maker.name,
        params=_params(maker, pairs),
        shards=tuple(shard.row for shard in shards),
        skipped=tuple(sorted((*scan.skipped, *small), key=lambda entry: entry.name)),
        extra={
            "photographs": photographs,
            "near_duplicates": [list(entry) for entry in scan.near_duplicates(pairs)],
            "machine": asdict(shards[0].machine),
        },
    )


def _params(maker: PairMaker, pairs: PairsSettings) -> dict[str, object]:
    """The params that made a set, for its manifest."""
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
        "teacher": maker.teacher and maker.teacher.fingerprint,
    }
