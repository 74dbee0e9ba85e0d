"""Results of finished runs, each in a folder named after all that it follows from."""

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.experiments.recipe import Run, Target
from stages.runner.declared import inputs_of, outs_of, read_pipeline
from stages.runner.fingerprint import fingerprint_of, input_digests
from stages.runner.stage import SCRATCH
from tvqrap.runtime.errors import UserError

EXPERIMENTS = SCRATCH / "experiments"
RESULTS = EXPERIMENTS / "results"
RESULT = "result.json"
SCORES = "scores.json"
DIGITS = 12

SCORING = (
    Path("stages/experiments/milestones.py"),
    Path("stages/experiments/reconstruction.py"),
    Path("stages/runner/trainings.py"),
    Path("tvqrap/decomposition.py"),
)
"""The code that scores a tokenizer alone; it is no stage of dvc.yaml."""


@dataclass(frozen=True)
class Key:
    """The identity of a result: two digests (hex, shortened)."""

    params: str
    """Digest of the target and of the params that the stages up to it declare."""
    inputs: str
    """Digest of the code, photographs and given weights that they read."""

    @property
    def folder(self) -> Path:
        """Folder of the result, relative to the top of the checkout."""
        return RESULTS / f"{self.params}-{self.inputs}"


class Keys:
    """Makes the keys of runs, from dvc.yaml and the files in the working directory.

    A result of `train_tokenizer` depends on `extract_tokens` and `evaluate` too, because their code
    and params determine its scores.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        pipeline = read_pipeline()
        needed = ("make_pairs", "train_tokenizer", "extract_tokens", "evaluate")
        self.entries = [
            entry for name, entry in pipeline.items() if target == "evaluate" or name in needed
        ]
        self.outs = [out for entry in pipeline.values() for out in outs_of(entry)]
        self._digests: dict[tuple[Path, ...], str] = {}

    def inputs(self, run: Run) -> tuple[Path, ...]:
        """Files and folders that the run reads and that no stage makes."""
        paths = {path for entry in self.entries for path in inputs_of(entry, run.values)[1]}
        if self.target == "train_tokenizer":
            paths.update(SCORING)
        made = {path for path in paths if any(path.is_relative_to(out) for out in self.outs)}
        return tuple(sorted(paths - made))

    def given(self, run: Run) -> tuple[Path, ...]:
        """The run's inputs, and its table of licences where that is not in one of them."""
        inputs, licences = self.inputs(run), run.params.data.licences
        if licences is None or any(Path(licences).is_relative_to(path) for path in inputs):
            return inputs
        return (*inputs, Path(licences))

    def key(self, run: Run) -> Key:
        """The run's key. Raises `UserError` naming an input that cannot be read."""
        declared = {key for entry in self.entries for key in inputs_of(entry, run.values)[0]}
        values = {key: run.values[key] for key in sorted(declared)}
        paths = self.inputs(run)
        if paths not in self._digests:
            self._digests[paths] = fingerprint_of("inputs", {}, input_digests(paths))
        params = hashlib.sha256(json.dumps([self.target, values], sort_keys=True).encode())
        return Key(params.hexdigest()[:DIGITS], self._digests[paths][:DIGITS])


@dataclass(frozen=True)
class Result:
    """The scores of a finished run."""

    means: Mapping[str, Mapping[str, float]]
    """By model and column: means over the photographs of the test set."""
    images: int
    """Images of the test set."""
    pairs: str
    """Digest of the test set."""
    versions: Mapping[str, str | None]
    """Versions of the packages that computed the scores."""


def load_result(key: Key, rows: Collection[str] = ()) -> Result | None:
    """The result of a key; None where there is none, or where it lacks one of the rows.

    Raises `UserError` for a damaged one.
    """
    path = key.folder / SCORES
    if not (key.folder / RESULT).is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        means: dict[str, dict[str, float]] = {}
        for model, intervals in found["scores"].items():
            means[model] = {column: interval["mean"] for column, interval in intervals.items()}
        for model, totals in found["totals"].items():
            means.setdefault(model, {}).update(totals)
        if not means.keys() >= set(rows):
            return None
        data, versions = (found["protocol"][key] for key in ("data", "versions"))
        return Result(means, data["images"], data["pairs"], {**versions})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{path}: not readable as scores ({type(error).__name__}: {error}); remove the folder "
            "and run the recipe again"
        ) from None


def other_inputs(key: Key) -> set[str]:
    """Digests of other inputs with which the same params were run."""
    found = {path.name.split("-")[-1] for path in RESULTS.glob(f"{key.params}-*")}
    return found - {key.inputs}


def store_result(key: Key, about: Mapping[str, Any], files: Mapping[str, Path]) -> None:
    """Copies files and folders (by their name in the result) to the key's folder, all at once."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    unfinished = RESULTS / f".{key.folder.name}.{os.getpid()}"
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir()
        for name, path in files.items():
            if path.is_dir():
                shutil.copytree(path, unfinished / name, copy_function=shutil.copyfile)
            else:
                shutil.copyfile(path, unfinished / name)
        text = json.dumps(dict(about), indent=2) + "\n"
        (unfinished / RESULT).write_text(text, encoding="utf-8")
        if key.folder.exists():
            shutil.rmtree(key.folder)
        unfinished.replace(key.folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
