"""Cuts HR crops from photographs and degrades them to LR images, set by set."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.executor.run import connected
from pipeline.pairs.index import SETS, pair_sets_text
from pipeline.pairs.make import check_counts, make_set
from pipeline.sources.scan import scan_photos
from pipeline.teacher import teacher_of
from stages.runner.executor import Executor, chosen_executor
from stages.runner.publish import publish_sets
from stages.runner.stage import SCRATCH, Stage, run_stage
from tvqrap.runtime.errors import UserError
from tvqrap.runtime.progress import progress
from tvqrap.runtime.text import printable

PAIRS = Path("data/pairs")
SCANS = SCRATCH / "scans"


def make_pairs(stage: Stage) -> None:
    """data.photos -> data/pairs."""
    executor = chosen_executor("processes")
    with connected(executor.kind):
        _make_pairs(stage, executor)


def _make_pairs(stage: Stage, executor: Executor) -> None:
    data, pairs = stage.params.data, stage.params.pairs
    teacher = teacher_of(pairs)
    earlier = stage.earlier_runs(pairs.storage)
    scan = scan_photos(
        data, executor=executor.kind, workers=executor.count, kept=SCANS, code=earlier.code
    )
    print(f"{data.photos}: {len(scan.usable)} photographs usable, {len(scan.skipped)} skipped")
    if scan.passed_over:
        print(f"{data.photos}: {scan.passed_over}")
    _list("skipped", [f"{entry.name}: {entry.reason}" for entry in scan.skipped])
    if scan.skipped_fraction > data.max_skipped_fraction:
        first, all_photos = scan.skipped[0], len(scan.usable) + len(scan.skipped)
        raise UserError(
            f"data.max_skipped_fraction: found {len(scan.skipped)} of {all_photos} photographs "
            f"unusable ({scan.skipped_fraction:.1%}; {first.name}: {first.reason}), "
            f"expected at most {data.max_skipped_fraction:.1%}"
        )
    _list(
        "near-duplicates in different splits",
        [
            f"{first} and {second} ({distance} of 64 bits differ)"
            for first, second, distance in scan.near_duplicates(pairs)
        ],
    )
    check_counts(pairs, scan)
    work = stage.work(pairs.storage)
    manifests = []
    taken_over: list[int] = []
    total = sum(chosen.samples for chosen in pairs.sets.values())
    with progress("make_pairs", total=total, unit="crop") as advance:
        for name in pairs.sets:
            manifest = make_set(
                name,
                pairs,
                data,
                scan,
                work,
                executor=executor.kind,
                workers=executor.count,
                teacher=teacher,
                logs=stage.outlasting("logs", pairs.storage),
                earlier=earlier,
                advance=advance,
                on_taken_over=taken_over.append,
            )
            manifests.append(manifest)
            stage.refer_to(manifest, work)
            print(
                f"{name}: {manifest.samples} crops of {manifest.extra['photographs']} photographs "
                f"in {len(manifest.shards)} shards, {taken_over[-1]} of them made by earlier runs",
                flush=True,
            )
    folders = [stage.scratch / name for name in pairs.sets]
    publish_sets(folders, PAIRS, {SETS: pair_sets_text(manifests)})
    stage.keep_sets(pairs.storage)


def _list(title: str, lines: Sequence[str]) -> None:
    if lines:
        print(f"{title}:", *map(printable, lines), sep="\n  ", flush=True)


if __name__ == "__main__":
    run_stage("make_pairs", make_pairs)
