"""Where a training starts: at a checkpoint of its own, of a shorter one, of a changed one, or at 0.

In this order:

1. An interrupted run of the same params, inputs and code resumes.
2. A finished training that is to have more steps goes on from its end, where the result is that of
   a fresh training. The last checkpoint of each stage's last finished training is kept for that.
3. An unfinished training goes on with changed params and code, as long as its data and the shape of
   its network are the same. Each change is recorded with its step.
4. So does a finished training that is to have more steps, with TVQRAP_RESUME=finished.
5. Otherwise the training starts at step 0. Other trainings stay.

TVQRAP_RESUME=same leaves out all but the first and the last.
"""

import copy
import os
import shutil
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast, get_args

from stages.runner.fingerprint import fingerprint_of
from stages.runner.stage import FINISHED, SCRATCH, Stage
from tvqrap.config.training import TokenizerTraining
from tvqrap.config.workers import Training
from tvqrap.runtime.atomic import atomic_path
from tvqrap.runtime.errors import UsageError
from tvqrap.training.checkpoint import checkpoints, is_milestone, read_entry
from tvqrap.training.distributed import Workers
from tvqrap.training.record import TrainingRecord

NETWORK = "network"
"""Folder beside the checkpoints: the model that the training began with (`stages.training`)."""

VARIABLE = "TVQRAP_RESUME"
"""Environment variable: `changed` (the default), `finished` or `same`."""

Resume = Literal["changed", "finished", "same"]

MAY_CHANGE = (
    "workers",
    "compute.*",
    "*.steps",
    "*.grad_accum_steps",
    "*.optimiser.*",
    "*.image.*",
    "*.loss_weights.*",
    "*.monitoring.*",
    "*.teacher",
    "*.teacher.*",
    "tokenizer.commitment_on",
    "tokenizer.texture_dropout",
    "tokenizer.codebook_life.revive_every",
    "rap.decoder_lr_factor",
)
"""Params that may change on the way. All others fix the data or the shape of a network."""

FIXED = ("*.set", "*.sets", "*.sets.*")
"""Exceptions: sets, whatever their names."""

_GAN = ".image.adversarial.weight"
_SHAPES = (".image.adversarial.width", ".image.adversarial.discriminator")


def find_start(stage: Stage, training: Training, section: str, workers: Workers) -> TrainingRecord:
    """Puts the checkpoint to start from, if there is one, into the scratch folder.

    The first worker prints a line where params or code have changed since that checkpoint, or where
    the training starts at step 0 beside an unfinished one. Returns the record of this run. Raises
    `UsageError` where TVQRAP_RESUME has another value.
    """
    how = _chosen()
    now = record_of(stage, workers.count)
    if workers.is_main:
        own = newest_record(stage.scratch)
        if own is not None:
            _say_changes(stage, stage.scratch, own, now)
        elif training.length and (
            how == "same" or not _take_shorter(stage, training, section, how)
        ):
            _take_changed(stage, training, now, how)
    workers.barrier()
    return now


def record_of(stage: Stage, workers: int) -> TrainingRecord:
    """The record of a run: its params by dotted key, with the number of workers in use."""
    params = {
        key: value
        for key, value in dict(flat_params(stage.values)).items()
        if not key.endswith(".workers")
    }
    return TrainingRecord({**params, "workers": workers}, stage.data, stage.code)


def newest_record(folder: Path) -> tuple[int, TrainingRecord] | None:
    """(steps done, record) of the newest checkpoint with a record; None where there is none."""
    for step, path in reversed(checkpoints(folder)):
        record = read_entry(path, "record")
        if record is not None:
            return step, TrainingRecord(**record)
    return None


def may_change(key: str, before: Mapping[str, Any]) -> bool:
    """Whether a training with the params `before` may go on after a change of this param.

    The shape of a discriminator is fixed, where there is one.
    """
    for shape in _SHAPES:
        if key.endswith(shape):
            return before.get(key.removesuffix(shape) + _GAN) == 0
    return any(fnmatch(key, each) for each in MAY_CHANGE) and not any(
        fnmatch(key, each) for each in FIXED
    )


def keep_final(stage: Stage, section: str) -> None:
    """Keeps the last checkpoint of a finished training with its milestones.

    Removes that of the training finished before it, unless that one has milestones.
    """
    for old in FINISHED.glob(f"{stage.name}-*"):
        if len(checkpoints(old)) < 2:
            shutil.rmtree(old, ignore_errors=True)
    found = checkpoints(stage.scratch)
    if not found:
        return
    folder = _kept(stage, section)
    folder.mkdir(parents=True, exist_ok=True)
    keep_every = stage.values[section]["monitoring"]["keep_every"]
    for step, path in found:
        if step == found[-1][0] or is_milestone(step, keep_every):
            path.replace(folder / path.name)
    if (stage.scratch / NETWORK).is_dir() and not (folder / NETWORK).is_dir():
        (stage.scratch / NETWORK).replace(folder / NETWORK)


def _take_changed(stage: Stage, training: Training, now: TrainingRecord, how: Resume) -> None:
    """Takes over the newest training that may go on as this one, an unfinished one if there is.

    Prints why where there are trainings, but none that may.
    """
    refused = []
    for place in (SCRATCH, FINISHED) if how == "finished" else (SCRATCH,):
        for folder in trainings_in(place, stage.name):
            found = newest_record(folder)
            if folder == stage.scratch or found is None:
                continue
            step, before = found
            differences = before.differences(now)
            reason = differences.without(partial(may_change, before=before.params)).text()
            if not reason and how == "same":
                reason = f"{VARIABLE} is same"
            if not reason and place == FINISHED and step >= training.length:
                reason = f"it has {step} steps, no fewer than asked for"
            if not reason:
                _say_changes(stage, folder, found, now)
                _take(folder, step, stage.scratch)
                return
            refused.append((folder, step, reason))
    if refused:
        folder, step, reason = refused[0]
        print(
            f"{stage.name}: starts at step 0 beside {_shown(folder)} (step {step}), which it "
            f"cannot go on with: {reason}; `tvqrap-cli runs` lists trainings",
            flush=True,
        )


def _take(folder: Path, step: int, scratch: Path) -> None:
    """Moves an unfinished training to `scratch`, or copies the last checkpoint of a finished one.

    A finished one stays whole until another has finished.
    """
    if folder.parent == FINISHED:
        _copy(dict(checkpoints(folder))[step], scratch)
    else:
        shutil.rmtree(scratch, ignore_errors=True)
        folder.rename(scratch)


def trainings_in(place: Path, name: str) -> list[Path]:
    """Folders of a stage that hold checkpoints, that of the newest checkpoint first."""
    ages = {}
    for folder in place.glob(f"{name}-*"):
        found = checkpoints(folder)
        if found:
            ages[folder] = found[-1][1].stat().st_mtime
    return sorted(ages, key=lambda folder: ages[folder], reverse=True)


def _say_changes(
    stage: Stage, folder: Path, found: tuple[int, TrainingRecord], now: TrainingRecord
) -> None:
    step, before = found
    differences = before.differences(now)
    if differences:
        print(
            f"{stage.name}: goes on with {_shown(folder)} at step {step}, changed: "
            f"{differences.text()}. To start at step 0 instead: {VARIABLE}=same",
            flush=True,
        )


def _shown(folder: Path) -> str:
    """The name of a training, as `tvqrap-cli runs` lists it."""
    return folder.relative_to(SCRATCH).as_posix()


def _chosen() -> Resume:
    given = os.environ.get(VARIABLE) or "changed"
    if given not in get_args(Resume):
        raise UsageError(f"{VARIABLE} is {given!r}, expected one of {', '.join(get_args(Resume))}")
    return cast(Resume, given)


def _take_shorter(stage: Stage, training: Training, section: str, how: Resume) -> bool:
    """Copies the last checkpoint of a shorter training; whether there was one to copy.

    It is not used where the number of steps changes earlier steps; then prints the reason.
    """
    for done, path in checkpoints(_kept(stage, section))[-1:]:
        reason = _length_matters(training, done)
        if reason is None and done < training.length:
            _copy(path, stage.scratch)
            return True
        if done != training.length and how == "changed":  # equal: asked to run again
            reason = reason or "more than it now has"
            advice = f"; {VARIABLE}=finished goes on from there" if done < training.length else ""
            print(f"{stage.name}: starts over; it was run for {done} steps, {reason}{advice}")
    return False


def _copy(checkpoint: Path, scratch: Path) -> None:
    with atomic_path(scratch / checkpoint.name) as temporary:
        shutil.copy(checkpoint, temporary)


def _kept(stage: Stage, section: str) -> Path:
    values: dict[str, Any] = copy.deepcopy(dict(stage.values))
    last = values[section]["phases"][-1] if "phases" in values[section] else values[section]
    del last["steps"]
    digests = {**stage.data, **stage.code}
    return FINISHED / f"{stage.name}-{fingerprint_of(stage.name, values, digests)[:16]}"


def _length_matters(training: Training, done: int) -> str | None:
    """Why a longer training differs within its first `done` steps; None where it does not."""
    if training.optimiser.lr_schedule == "cosine":
        return "which its learning rates followed (optimiser.lr_schedule cosine)"
    every = training.codebook_life.revive_every if isinstance(training, TokenizerTraining) else 0
    if every and done % every == 0:
        return "at the last of which no entry was revived"
    return None


def flat_params(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Values of nested settings by dotted key; sections in lists are numbered."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat_params(value, f"{prefix}{key}.")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            numbered = {str(index): each for index, each in enumerate(value)}
            yield from flat_params(numbered, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
