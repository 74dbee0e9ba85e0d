"""Unfinished trainings: a point goes on with its own, whichever working copy that lies in."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from stages.experiments.recipe import Run
from stages.runner.resume import flat_params, newest_record, trainings_in
from stages.runner.stage import SCRATCH
from stages.runner.worker import SECTIONS


def take_unfinished(root: Path, others: Iterable[Path], run: Run) -> None:
    """Moves unfinished trainings with the run's params from `others` to the working copy `root`.

    None of them may be running. A training that is further on in `root` stays.
    """
    values = dict(flat_params(run.values))
    for place in others:
        for stage in SECTIONS:
            for folder in trainings_in(place / SCRATCH, stage):
                found = newest_record(folder)
                if found is None or any(
                    values.get(key) != value
                    for key, value in found[1].params.items()
                    if key != "workers"
                ):
                    continue
                own = root / SCRATCH / folder.name
                before = newest_record(own)
                if before is None or before[0] < found[0]:
                    shutil.rmtree(own, ignore_errors=True)
                    own.parent.mkdir(parents=True, exist_ok=True)
                    folder.replace(own)
