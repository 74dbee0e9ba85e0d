"""Cuts photographs into HR crops and degrades them to LR, set by set."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.executor.run import connected
from pipeline.pair_sets import SETS, pair_sets_text
from pipeline.pairs import make_set
from pipeline.survey import survey_photos
from pipeline.teacher import teacher_of
from stages.stage import Stage, run_stage
from stages.workers import Workforce, workforce
from tvqrap.errors import UserError
from tvqrap.progress import progress

PAIRS = Path("data/pairs")


def make_pairs(stage: Stage) -> None:
    """data.photos -> data/pairs."""
    crew = workforce("processes")
    with connected(crew.place):
        _make_pairs(stage, crew)


def _make_pairs(stage: Stage, crew: Workforce) -> None:
    data, pairs = stage.params.data, stage.params.pairs
    teacher = teacher_of(pairs)
    survey = survey_photos(data, place=crew.place, workers=crew.count)
    print(f"{data.photos}: {len(survey.usable)} photographs usable, {len(survey.lost)} lost")
    _list("lost", [f"{lost.name}: {lost.reason}" for lost in survey.lost])
    if survey.lost_share > data.max_lost:
        first = survey.lost[0]
        raise UserError(
            f"data.max_lost: found {len(survey.lost)} of {len(survey.usable) + len(survey.lost)} "
            f"photographs unusable ({survey.lost_share:.1%}; {first.name}: {first.reason}), "
            f"expected at most {data.max_lost:.1%}"
        )
    _list(
        "near-duplicates in different splits",
        [
            f"{first} and {second} ({distance} of 64 bits differ)"
            for first, second, distance in survey.near_duplicates(pairs)
        ],
    )
    work = stage.work(pairs.storage)
    manifests = []
    total = sum(chosen.samples for chosen in pairs.sets.values())
    with progress("make_pairs", total=total, unit="crop") as advance:
        for name in pairs.sets:
            manifest = make_set(
                name,
                pairs,
                data,
                survey,
                work,
                place=crew.place,
                workers=crew.count,
                teacher=teacher,
                logs=stage.outlasting("logs", pairs.storage),
                advance=advance,
            )
            manifests.append(manifest)
            stage.refer_to(manifest, work)
            print(
                f"{name}: {manifest.samples} crops of {manifest.extra['photographs']} photographs "
                f"in {len(manifest.shards)} shards",
                flush=True,
            )
    stage.publish_sets(pairs.sets, PAIRS, beside={SETS: pair_sets_text(manifests)})


def _list(title: str, lines: Sequence[str]) -> None:
    if lines:
        print(f"{title}:", *lines, sep="\n  ", flush=True)


if __name__ == "__main__":
    run_stage("make_pairs", make_pairs)
