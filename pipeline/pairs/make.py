"""Named sets of pairs: HR crops of photographs with their degraded LR variants, in shards.

Every choice depends on the seed and on names alone (set, photograph, crop, variant). A set has the
same bytes whatever the number, kind or order of the workers.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from pipeline.config import DataSettings, PairsSettings
from pipeline.executor.ledger import Ledger
from pipeline.executor.run import ExecutorKind
from pipeline.executor.shards import make_missing
from pipeline.executor.shared_storage import FilesProof, WrittenProof
from pipeline.pairs.crops import capacity
from pipeline.pairs.plan import PlannedSample, crop_counts, plan_samples
from pipeline.pairs.shard import PairMaker, PairShard, PairShardTask
from pipeline.shards.manifest import Manifest, Skipped, shard_name
from pipeline.sources.scan import PhotoScan, ScannedPhoto
from pipeline.sources.splits import split_photos
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
    advance: Callable[[int], None] = lambda count: None,
) -> Manifest:
    """Make the set `name` in `work/name/`, shards and manifest, and return the manifest.

    `work` is a folder or a URL. `work/rows/name/` keeps a record of each finished shard: a later
    call with the same settings and photographs makes the missing shards alone, and leaves the same
    bytes. `teacher` is needed by a set whose target is not the photograph alone.
    `logs/name` (`work/logs/name` if not given) gets a log of each run. `advance` hears the number
    of samples in each shard as it is finished or found finished.
    UserError where the photographs do not give enough crops, where shards fail, where another
    driver works on the set, where a worker sees other photographs or other storage, or where
    workers are of two kinds.
    """
    work = resolved(work)
    out = work / name
    with only_driver(out, f"make_pairs into {out}") as check:
        chosen, small = _fitting(name, pairs, scan)
        settings = pairs.sets[name]
        samples = plan_samples(name, pairs.seed, settings, chosen)
        photos = Path(data.photos).resolve()
        maker = PairMaker(
            name=name,
            seed=pairs.seed,
            data=data,
            settings=settings,
            degradations={preset: pairs.degradations[preset] for preset in settings.presets},
            teacher=None if settings.target == "photo" else teacher,
            out=out,
            photos=FilesProof.of(photos, [entry.photo.name for entry in chosen]),
            storage=WrittenProof.beside(out),
        )
        tasks = _tasks(samples, pairs.shard_size)
        plans = {task.name: maker.plan(task) for task in tasks.values()}
        ledger = Ledger(out, work / "rows" / name, plans, PairShard)
        make_missing(
            ledger,
            maker,
            tasks,
            what=f"pairs.sets.{name}",
            logs=resolved(logs or work / "logs") / name,
            executor=executor,
            workers=workers,
            check=check,
            on_shard=lambda shard: advance(len(tasks[shard].samples)),
        )
        manifest = Manifest(
            kind="pairs",
            set=name,
            params=_params(maker, pairs),
            shards=tuple(shard.row for shard in ledger.shards),
            skipped=tuple(sorted((*scan.skipped, *small), key=lambda entry: entry.name)),
            extra={
                "photographs": len({sample.photo for sample in samples}),
                "near_duplicates": [list(entry) for entry in scan.near_duplicates(pairs)],
                "machine": asdict(ledger.shards[0].machine),
            },
        )
        check()
        manifest.save(out)
        return manifest


def check_counts(pairs: PairsSettings, scan: PhotoScan) -> None:
    """Raises UserError for the first set for which the photographs do not give enough crops."""
    for name, settings in pairs.sets.items():
        crop_counts(name, settings, _fitting(name, pairs, scan)[0])


def _fitting(
    name: str, pairs: PairsSettings, scan: PhotoScan
) -> tuple[list[ScannedPhoto], list[Skipped]]:
    """Photographs of the set's split that have crops for it, and those that are too small."""
    settings = pairs.sets[name]
    keys = [entry.photo.key for entry in scan.usable]
    split = set(split_photos(keys, pairs.splits, pairs.split_seed)[settings.split])
    chosen, small = [], []
    for entry in scan.usable:
        if entry.photo.key not in split:
            continue
        if capacity(settings.crop_mode, entry.width, entry.height, settings.size) != 0:
            chosen.append(entry)
        else:
            reason = (
                f"{entry.width}x{entry.height} pixels, too small for {settings.crop_mode} "
                f"{settings.size}"
            )
            small.append(Skipped(entry.photo.name, reason))
    return chosen, small


def _tasks(samples: Sequence[PlannedSample], shard_size: int) -> dict[str, PairShardTask]:
    """The shards of a set by name, each with its samples."""
    starts = range(0, len(samples), shard_size)
    tasks = (
        PairShardTask(shard_name(shard), tuple(samples[start : start + shard_size]))
        for shard, start in enumerate(starts)
    )
    return {task.name: task for task in tasks}


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
