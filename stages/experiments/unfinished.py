"""Unfinished trainings: a point goes on with its own, whichever working copy that lies in.

They are gathered in a pool before the points start. A point then takes copies of those that may be
its own. So no training is taken from a point that runs beside it.
"""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from stages.experiments.recipe import Run
from stages.runner.resume import flat_params, newest_record, trainings_in
from stages.runner.stage import SCRATCH
from stages.runner.worker import SECTIONS


def gather_unfinished(places: Iterable[Path], pool: Path) -> None:
    """Moves the unfinished trainings of working copies, none of which runs, to the folder `pool`.

    Of two with one name, the one that is further on stays.
    """
    for place in places:
        for stage in SECTIONS:
            for folder in trainings_in(place / SCRATCH, stage):
                if not _replaces(folder, pool / folder.name, shutil.move):
                    shutil.rmtree(folder)


def take_unfinished(root: Path, pool: Path, run: Run) -> None:
    """Copies trainings with the run's params from `pool` to the working copy `root`.

    A training that is further on in `root` stays. Params do not tell the data of a training; its
    stage does, and goes on with those of its own data alone.
    """
    values = dict(flat_params(run.values))
    for stage in SECTIONS:
        for folder in trainings_in(pool, stage):
            found = newest_record(folder)
            if found is not None and all(
                values.get(key) == value
                for key, value in found[1].params.items()
                if key != "workers"
            ):
                _replaces(folder, root / SCRATCH / folder.name, shutil.copytree)


def _replaces(folder: Path, own: Path, put: Callable[[Path, Path], object]) -> bool:
    """Puts a training in the place `own`, unless the one there is as far on."""
    found, before = newest_record(folder), newest_record(own)
    if before is not None and (found is None or found[0] <= before[0]):
        return False
    shutil.rmtree(own, ignore_errors=True)
    own.parent.mkdir(parents=True, exist_ok=True)
    put(folder, own)
    return True
