"""Runs the points of a recipe that have no result yet, one after the other or several at once."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, chdir
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import count, takewhile
from pathlib import Path

from pipeline.executor.run import run_tasks
from pipeline.storage.lock import file_lock
from stages.evaluate import TOKENIZER
from stages.experiments.milestones import export_milestones
from stages.experiments.recipe import Recipe, Run, Target
from stages.experiments.results import EXPERIMENTS, SCORES, Key, Keys, load_result, store_result
from stages.experiments.unfinished import gather_unfinished, take_unfinished
from stages.experiments.working_copy import WorkingCopy
from stages.runner.declared import inputs_of, read_pipeline
from stages.runner.executor import EXECUTOR, Executor
from stages.runner.stage import SCRATCH
from tvqrap.runtime.errors import UserError

RECONSTRUCTION = Path(".scratch/reconstruction")
"""Folder in the working copy for the scores of a tokenizer alone."""
MILESTONES = Path(".scratch/milestones")
"""Folder in the working copy for the tokenizers on the way of a training."""


@dataclass(frozen=True)
class Done:
    """The outcome of a run."""

    title: str
    seconds: float
    error: str | None = None


@dataclass(frozen=True)
class Task:
    """Runs that share a tokenizer: one worker runs them, one after the other."""

    runs: tuple[Run, ...]
    keys: tuple[Key, ...]


@dataclass(frozen=True)
class PointWorker:
    """Makes the function with which a process or Ray actor runs tasks, in a copy of its own."""

    checkout: Path
    name: str
    recipe: Recipe
    given: frozenset[Path]
    """Files and folders that the runs read, and that no stage makes."""
    pairs_alone: bool = False
    """Whether the pairs of the runs are made, and nothing else."""
    several: bool = False
    """Whether points run side by side; the stages of a point then take no more than one worker."""

    def __call__(self) -> Callable[[Task], list[Done]]:
        """Claims a working copy, which this process holds until it ends.

        Raises `UserError` where the checkout is not on this node.
        """
        try:
            os.chdir(self.checkout)
        except OSError as error:
            raise UserError(
                f"{self.checkout}: not found on this node ({error.strerror}); points on Ray need "
                "the checkout on a shared file system"
            ) from None
        held = ExitStack()
        copy = _claimed(self.checkout, self.name, held)
        copy.refresh(self.checkout, self.given)

        def run(task: Task, held: ExitStack = held) -> list[Done]:
            return [
                self._run(copy, one, key)
                for one, key in zip(task.runs, task.keys, strict=True)
                if not self.pairs_alone or one is task.runs[0]
            ]

        return run

    def _run(self, copy: WorkingCopy, run: Run, key: Key) -> Done:
        began = time.monotonic()
        error = None
        environment = {EXECUTOR: "serial"} if self.several else {}
        try:
            if self.pairs_alone:
                copy.set_params(run.text)
                copy.run("dvc", "repro", "make_pairs", **{EXECUTOR: "processes"})
            else:
                take_unfinished(copy.root, _pool(self.checkout, self.name), run)
                files = run_point(copy, self.recipe.target, run, **environment)
                with chdir(copy.root):
                    if Keys(self.recipe.target).key(run) != key:
                        raise UserError(
                            "photographs, given weights or the code changed during the run, "
                            "which is not kept; run the recipe again"
                        )
                about = {
                    "recipe": self.name,
                    "point": run.point,
                    "seed": run.seed,
                    "target": self.recipe.target,
                    "seconds": round(time.monotonic() - began, 1),
                    "params": key.params,
                    "inputs": key.inputs,
                }
                store_result(key, about, files)
        except UserError as caught:
            error = str(caught)
        return Done(_title(run), time.monotonic() - began, error)


def run_recipe(name: str, recipe: Recipe, runs: Sequence[Run], executor: Executor) -> list[str]:
    """Runs those of `runs` that have no result yet, in the checkout that is the working directory.

    Prints one line per run. After a failed run the others go on; returns the titles of those that
    failed.
    """
    checkout = Path.cwd()
    with file_lock(checkout / EXPERIMENTS / f"{name}.lock", name):
        copies = list(takewhile(lambda copy: copy.root.is_dir(), _numbered(checkout, name)))
        for copy in copies:
            copy.wait_for_stages()
        gather_unfinished([copy.root for copy in copies], _pool(checkout, name))
        keys = Keys(recipe.target)
        given = frozenset(path for run in runs for path in keys.given(run))
        found = [(run, keys.key(run)) for run in runs]
        waiting = [(run, key) for run, key in found if load_result(key, run.milestone_rows) is None]
        print(
            f"{name}: {len(runs)} runs, {len(runs) - len(waiting)} of them finished before; "
            f"log in {EXPERIMENTS / name}{'*' * (executor.kind != 'serial')}.log",
            flush=True,
        )
        several = executor.kind != "serial"
        worker = PointWorker(checkout, name, recipe, given, several=several)
        if several:
            _make_pairs(worker, waiting, executor)
        progress = _Progress(name, len(runs), len(waiting))
        tasks = _tasks(waiting, ("make_pairs", "train_tokenizer") if several else None)
        failures = run_tasks(
            worker,
            tasks,
            executor=executor.kind,
            workers=executor.count,
            on_result=lambda _, done: progress.add(done),
            may_hang=False,
        )
        for failure in failures:  # its worker died
            task = tasks[failure.index]
            progress.add(
                [
                    Done(_title(run), 0.0, failure.error)
                    for run, key in zip(task.runs, task.keys, strict=True)
                    if load_result(key, run.milestone_rows) is None
                ]
            )
        if not progress.failed:
            shutil.rmtree(_pool(checkout, name), ignore_errors=True)
    return progress.failed


def run_point(copy: WorkingCopy, target: Target, run: Run, **environment: str) -> dict[str, Path]:
    """Runs one point with one seed; returns the files of its result by name."""
    copy.set_params(run.text)
    copy.run("dvc", "repro", target, **environment)
    if target == "evaluate":
        scores = copy.root / "evaluation"
    else:
        scores = copy.root / RECONSTRUCTION
        models = [TOKENIZER, *_milestones(copy, run, environment)]
        paths = [str(path) for path in (RECONSTRUCTION, *models)]
        copy.run("stages.experiments.reconstruction", *paths, **environment)
    return {
        "params.yaml": copy.root / "params.yaml",
        SCORES: scores / SCORES,
        "per_image.csv": scores / "per_image.csv",
        "curves": copy.root / "curves",
    }


def _milestones(copy: WorkingCopy, run: Run, environment: Mapping[str, str]) -> list[Path]:
    """Writes the tokenizers on the way of the run's training; paths relative to the copy."""
    if not run.milestones:
        return []
    out = copy.root / MILESTONES
    shutil.rmtree(out, ignore_errors=True)
    # DVC's cache may have had the tokenizer, which another working copy trained.
    copies = [path.parent for path in copy.root.parent.glob(f"*/{SCRATCH}")]
    written = export_milestones(copies, copy.root / TOKENIZER, run.milestones, out)
    if written is None:  # it holds no milestones
        copy.run("dvc", "repro", "--force", "--single-item", "train_tokenizer", **environment)
        written = export_milestones([copy.root], copy.root / TOKENIZER, run.milestones, out)
    if written is None:
        raise UserError(f"{copy.root}: no training that ended with {TOKENIZER}")
    return [path.relative_to(copy.root) for path in written]


class _Progress:
    """Prints a line per run."""

    def __init__(self, name: str, total: int, waiting: int) -> None:
        self._name, self._total, self._waiting = name, total, waiting
        self._start = time.monotonic()
        self._done = 0
        self.failed: list[str] = []

    def add(self, finished: Sequence[Done]) -> None:
        for done in finished:
            self._done += 1
            outcome = "done"
            if done.error is not None:
                outcome = f"failed: {done.error};"
                self.failed.append(done.title)
            elapsed = time.monotonic() - self._start
            left = elapsed / self._done * (self._waiting - self._done)
            print(
                f"{self._name}: {done.title}: {outcome} in {_clock(done.seconds)} "
                f"({self._total - self._waiting + self._done} of {self._total}, "
                f"about {_clock(left)} left)",
                flush=True,
            )


def _make_pairs(
    worker: PointWorker, waiting: Sequence[tuple[Run, Key]], executor: Executor
) -> None:
    """Makes the pairs of all runs first, each once; points that start together share them."""
    # A point without pairs fails with the same line later.
    run_tasks(
        replace(worker, pairs_alone=True, several=False),
        _tasks(waiting, ("make_pairs",)),
        executor=executor.kind,
        workers=executor.count,
        on_result=lambda _, done: None,
        may_hang=False,
    )


def _tasks(waiting: Sequence[tuple[Run, Key]], shared: tuple[str, ...] | None) -> list[Task]:
    """Groups the runs that agree in all params of the stages `shared`; None: each run alone."""
    stages = read_pipeline()
    groups: dict[str, list[tuple[Run, Key]]] = {}
    for index, (run, key) in enumerate(waiting):
        group = str(index)
        if shared is not None:
            declared = {
                param for stage in shared for param in inputs_of(stages[stage], run.values)[0]
            }
            group = json.dumps({param: run.values[param] for param in sorted(declared)})
        groups.setdefault(group, []).append((run, key))
    return [
        Task(tuple(run for run, _ in group), tuple(key for _, key in group))
        for group in groups.values()
    ]


def _pool(checkout: Path, name: str) -> Path:
    """Folder for the recipe's unfinished trainings."""
    return checkout / EXPERIMENTS / f"{name}.unfinished"


def _claimed(checkout: Path, name: str, held: ExitStack) -> WorkingCopy:
    """The first working copy of the recipe that no other process holds."""
    for copy in _numbered(checkout, name):
        try:
            held.enter_context(copy.alone())
        except UserError:
            continue
        return copy
    raise AssertionError


def _numbered(checkout: Path, name: str) -> Iterator[WorkingCopy]:
    for index in count(1):
        yield WorkingCopy(checkout / EXPERIMENTS / (name if index == 1 else f"{name}-{index}"))


def _title(run: Run) -> str:
    return f"{run.point} seed {run.seed}"


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
