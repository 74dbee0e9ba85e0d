"""Runs the points of a recipe that have no result yet."""

import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from stages.experiments.recipe import Recipe, Run
from stages.experiments.results import EXPERIMENTS, SCORES, Keys, load_result, store_result
from stages.experiments.working_copy import WorkingCopy
from tvqrap.runtime.errors import UserError

RECONSTRUCTION = Path(".scratch/reconstruction")
"""Folder in the working copy for the scores of a tokenizer alone."""


def run_recipe(name: str, recipe: Recipe, runs: Sequence[Run]) -> list[str]:
    """Runs those of `runs` that have no result yet, in the checkout that is the working directory.

    Prints one line per run. After a failed run the others go on; returns the titles of those that
    failed.
    """
    checkout = Path.cwd()
    copy = WorkingCopy(checkout / EXPERIMENTS / name)
    failed = []
    with copy.alone():
        keys = Keys(recipe.target)
        folders = {path for run in runs for path in keys.inputs(run) if path.is_dir()}
        copy.wait_for_stages()
        copy.refresh(checkout, folders)
        found = {id(run): keys.key(run) for run in runs}
        waiting = [run for run in runs if load_result(found[id(run)]) is None]
        print(
            f"{name}: {len(runs)} runs, {len(runs) - len(waiting)} of them finished before; "
            f"log in {copy.log.relative_to(checkout)}",
            flush=True,
        )
        start = time.monotonic()
        for index, run in enumerate(waiting, start=1):
            title = f"{run.point} seed {run.seed}"
            began = time.monotonic()
            outcome = "done"
            try:
                files = run_point(copy, recipe, run)
                seconds = time.monotonic() - began
                about = {
                    "recipe": name,
                    "point": run.point,
                    "seed": run.seed,
                    "target": recipe.target,
                    "seconds": round(seconds, 1),
                    "params": found[id(run)].params,
                    "inputs": found[id(run)].inputs,
                }
                store_result(found[id(run)], about, files)
            except UserError as error:
                outcome = f"failed: {error};"
                failed.append(title)
            elapsed = time.monotonic() - start
            left = elapsed / index * (len(waiting) - index)
            print(
                f"{name}: {title}: {outcome} in {_clock(time.monotonic() - began)} "
                f"({len(runs) - len(waiting) + index} of {len(runs)}, about {_clock(left)} left)",
                flush=True,
            )
    return failed


def run_point(copy: WorkingCopy, recipe: Recipe, run: Run) -> dict[str, Path]:
    """Runs one point with one seed; returns the files of its result by name."""
    copy.set_params(run.text)
    copy.run("dvc", "repro", recipe.target)
    if recipe.target == "evaluate":
        scores = copy.root / "evaluation"
    else:
        scores = copy.root / RECONSTRUCTION
        copy.run("stages.experiments.reconstruction", str(RECONSTRUCTION))
    return {
        "params.yaml": copy.root / "params.yaml",
        SCORES: scores / SCORES,
        "per_image.csv": scores / "per_image.csv",
        "curves": copy.root / "curves",
    }


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
