"""Named sets of pairs: HR crops of photographs with their degraded LR variants, in shards.

Every choice depends on the seed and on names alone (set, photograph, crop, variant), so a set has
the same bytes whatever the number, place or order of the workers. Each finished shard leaves a row
beside it; a run that was killed goes on from those.
"""

import functools
import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import DataSettings, DegradationSettings, PairsSettings, SetSettings
from pipeline.executor.run import ExecutorKind, run_tasks
from pipeline.executor.run_log import run_log
from pipeline.executor.shared_storage import FilesProof, WrittenProof
from pipeline.pairs.crops import capacity, cut
from pipeline.pairs.degradation import degrade, draw_preset
from pipeline.pairs.plan import PlannedSample, plan_samples
from pipeline.rng import random_stream
from pipeline.shards.codec import encode_png
from pipeline.shards.manifest import SCHEMA, Manifest, ShardRow, Skipped, is_intact, shard_name
from pipeline.shards.tar import Sample, write_shard
from pipeline.sources.photos import Photo, decode
from pipeline.sources.scan import PhotoScan
from pipeline.sources.splits import split_photos
from pipeline.storage.lease import Check, only_driver
from pipeline.storage.location import (
    Location,
    StorageError,
    file_sha256,
    file_sizes,
    make_folder,
    remove,
    resolved,
    write_text,
)
from pipeline.teacher import Teach, Teacher
from tvqrap.runtime.errors import UserError

DECODED_BYTES = 256 * 2**20
"""Decoded photographs that a worker keeps from one shard to the next."""


@dataclass(frozen=True)
class _ShardTask:
    path: Location
    row: Location
    """Where the finished shard's row goes."""
    plan: str
    """SHA-256 of all that decides the shard's content; a row of another plan is not resumed."""
    samples: tuple[PlannedSample, ...]


@dataclass(frozen=True)
class _SetTask:
    """What all shards of a set have in common."""

    name: str
    seed: int
    folder: Path
    data: DataSettings
    settings: SetSettings
    degradations: Mapping[str, DegradationSettings]
    """The presets that the set draws from."""
    teacher: Teacher | None
    photos: FilesProof
    out: WrittenProof


def make_set(
    name: str,
    pairs: PairsSettings,
    data: DataSettings,
    survey: PhotoScan,
    work: Location,
    *,
    executor: ExecutorKind,
    workers: int,
    teacher: Teacher | None = None,
    logs: Location | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> Manifest:
    """Make the set `name` in `work/name/`, shards and manifest, and return the manifest.

    `work` is a folder or a URL. `work/rows/name/` keeps a row for each finished shard: a later call
    with the same settings and photographs makes only what is missing, and leaves the same bytes.
    `teacher` makes the pictures of a set whose target is not the photograph alone.
    `logs/name` (`work/logs/name` if not given) gets a log of each run. `advance` hears the number
    of samples in each shard as it is finished or found finished.
    UserError where the photographs do not give enough crops, where shards fail, where another
    driver is at work on the set, or where a worker sees other photographs or other storage.
    """
    work = resolved(work)
    with only_driver(work / name, f"make_pairs into {work / name}") as check:
        return _make_set(
            name,
            pairs,
            data,
            survey,
            work,
            executor,
            workers,
            teacher,
            resolved(logs or work / "logs"),
            advance,
            check,
        )


def _make_set(
    name: str,
    pairs: PairsSettings,
    data: DataSettings,
    survey: PhotoScan,
    work: Location,
    executor: ExecutorKind,
    workers: int,
    teacher: Teacher | None,
    logs: Location,
    advance: Callable[[int], None],
    check: Check,
) -> Manifest:
    settings = pairs.sets[name]
    split = set(
        split_photos([entry.photo.key for entry in survey.usable], pairs.splits, pairs.split_seed)[
            settings.split
        ]
    )
    entries = [entry for entry in survey.usable if entry.photo.key in split]
    fits = [
        capacity(settings.crop_mode, entry.width, entry.height, settings.size) != 0
        for entry in entries
    ]
    chosen = [entry for entry, large in zip(entries, fits, strict=True) if large]
    small = [
        Skipped(
            entry.photo.name,
            f"{entry.width}x{entry.height} pixels, too small for {settings.crop_mode} "
            f"{settings.size}",
        )
        for entry, large in zip(entries, fits, strict=True)
        if not large
    ]
    planned = plan_samples(name, pairs.seed, settings, chosen)
    common = _SetTask(
        name,
        pairs.seed,
        Path(data.photos).resolve(),
        data,
        settings,
        {preset: pairs.degradations[preset] for preset in settings.presets},
        None if settings.target == "photo" else teacher,
        FilesProof.of(Path(data.photos).resolve(), [entry.photo.name for entry in chosen]),
        WrittenProof.beside(work / name),
    )
    tasks = _shard_tasks(common, pairs.shard_size, planned, work)
    rows = _finished(tasks, work / name)
    for row in rows.values():
        advance(row.samples)
    missing = [task for task in tasks if task.path.name not in rows]

    def keep(index: int, row: ShardRow) -> None:
        check()
        rows[row.name] = row
        advance(row.samples)

    names = [task.path.name for task in missing]
    with run_log(logs / name) as log:
        failures = run_tasks(
            functools.partial(_shard_maker, common),
            missing,
            executor=executor,
            workers=workers,
            on_result=keep,
            on_attempt=lambda attempt: log.add(names[attempt.index], attempt),
        )
    if failures:
        raise UserError(f"pairs.sets.{name}: {log.failed(failures, names, len(tasks))}")
    _sweep(work / name, rows)
    manifest = Manifest(
        kind="pairs",
        set=name,
        params={
            "data": data.model_dump(mode="json"),
            "seed": pairs.seed,
            "split_seed": pairs.split_seed,
            "splits": pairs.splits.model_dump(mode="json"),
            "shard_size": pairs.shard_size,
            "settings": settings.model_dump(mode="json"),
            "degradations": {
                preset: chosen.model_dump(mode="json")
                for preset, chosen in common.degradations.items()
            },
            "teacher": common.teacher and common.teacher.fingerprint,
        },
        shards=tuple(rows[name] for name in sorted(rows)),
        lost=tuple(sorted((*survey.lost, *small), key=lambda entry: entry.name)),
        extra={
            "photographs": len({sample.photo for sample in planned}),
            "near_duplicates": [list(entry) for entry in survey.near_duplicates(pairs)],
        },
    )
    check()
    manifest.save(work / name)
    return manifest


def _shard_tasks(
    common: _SetTask,
    shard_size: int,
    planned: Sequence[PlannedSample],
    work: Location,
) -> list[_ShardTask]:
    tasks = []
    for shard, start in enumerate(range(0, len(planned), shard_size)):
        samples = tuple(planned[start : start + shard_size])
        decisive = (
            SCHEMA,
            common.name,
            common.seed,
            common.settings.model_dump_json(),
            [[name, chosen.model_dump_json()] for name, chosen in common.degradations.items()],
            common.teacher and common.teacher.fingerprint,
            [asdict(sample) for sample in samples],
        )
        tasks.append(
            _ShardTask(
                work / common.name / shard_name(shard),
                work / "rows" / common.name / f"{shard:06d}.json",
                hashlib.sha256(repr(decisive).encode()).hexdigest(),
                samples,
            )
        )
    return tasks


def _finished(tasks: Sequence[_ShardTask], folder: Location) -> dict[str, ShardRow]:
    """Rows of the shards that an earlier run finished; every other file is swept away."""
    rows = {}
    sizes = file_sizes(folder)
    for task in tasks:
        try:
            content = json.loads(task.row.read_bytes())
            row = ShardRow(**content["row"])
            whole = is_intact(task.path, row, sizes)
        except StorageError:
            raise
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if whole and (content["plan"], row.name) == (task.plan, task.path.name):
            rows[row.name] = row
    make_folder(folder)
    _sweep(folder, rows)
    return rows


def _sweep(folder: Location, rows: Mapping[str, ShardRow]) -> None:
    """Removes what is no finished shard: files of dead writers and of other plans."""
    for name in file_sizes(folder).keys() - rows.keys():
        remove(folder / name)


def _shard_maker(common: _SetTask) -> Callable[[_ShardTask], ShardRow]:
    common.photos.check()
    common.out.check()
    teach = common.teacher.load() if common.teacher else None
    decoded: OrderedDict[Photo, np.ndarray] = OrderedDict()

    def photograph(photo: Photo, sha256: str) -> np.ndarray:
        if photo not in decoded:
            path = common.folder / photo.name
            if (found := file_sha256(path)) != sha256:
                raise UserError(
                    f"{path}: found SHA-256 {found[:12]}, expected {sha256[:12]}, which it had as "
                    "the photographs were surveyed"
                )
            image = decode(common.folder, photo, common.data)
            held = sum(image.nbytes for image in decoded.values())
            while decoded and held + image.nbytes > DECODED_BYTES:
                held -= decoded.popitem(last=False)[1].nbytes
            decoded[photo] = image
        decoded.move_to_end(photo)
        return decoded[photo]

    def make(task: _ShardTask) -> ShardRow:
        made: dict[str, Sample] = {}
        for planned in sorted(task.samples, key=lambda sample: sample.key):
            pixels = photograph(planned.photo, planned.sha256)
            made[planned.key] = _make_sample(common, planned, pixels, teach)
        row = write_shard(task.path, (made[planned.key] for planned in task.samples))
        write_text(task.row, json.dumps({"plan": task.plan, "row": asdict(row)}))
        return row

    return make


def _make_sample(
    common: _SetTask, planned: PlannedSample, photo: np.ndarray, teach: Teach | None
) -> Sample:
    settings = common.settings
    hr = cut(photo, settings.crop_mode, settings.size, planned.crop)
    members = {"hr.png": encode_png(hr)}
    records: list[Any] = []
    presets: list[str] = []
    for variant in range(settings.variants):
        identity = (common.name, "degrade", planned.photo.key, planned.index, variant)
        rng = random_stream(common.seed, *identity, *(["mirror"] if planned.mirror else []))
        preset = draw_preset(settings.presets, rng)
        degraded = degrade(hr, common.degradations[preset], rng)
        members[f"lr{variant}.png"] = encode_png(degraded.image)
        records.append(degraded.record)
        presets.append(preset)
        if teach is not None:
            member = "hr.png" if settings.target == "teacher" else f"teacher{variant}.png"
            members[member] = encode_png(teach(degraded.image))
    about = {
        "photo": planned.photo.name,
        "rule": settings.crop_mode,
        "crop": planned.index,
        "box": planned.box,
        "flip": planned.crop.flip,
        "channels": planned.crop.channels,
        "degradations": records,
    }
    if len(settings.presets) > 1:
        about["presets"] = presets
    members["json"] = json.dumps(about, separators=(",", ":"), ensure_ascii=False).encode()
    return Sample(planned.key, members)
