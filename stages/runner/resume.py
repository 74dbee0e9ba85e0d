"""Resumes a finished training that is to have more steps, with the result of a fresh training.

The last checkpoint of each stage's last finished training is kept for that. Its name is the
fingerprint of all inputs of the training but its number of steps.
"""

import copy
import shutil
from pathlib import Path
from typing import Any

from stages.runner.fingerprint import fingerprint_of
from stages.runner.stage import SCRATCH, Stage
from tvqrap.config.training import PredictorTraining, RapTraining, TokenizerTraining
from tvqrap.runtime.atomic import atomic_path
from tvqrap.training.checkpoint import checkpoints
from tvqrap.training.distributed import Workers

FINISHED = SCRATCH / "finished"


def resume_from_shorter(
    stage: Stage,
    settings: TokenizerTraining | PredictorTraining | RapTraining,
    section: str,
    workers: Workers,
) -> None:
    """Copies the last checkpoint of a shorter training, if there is one, to the scratch folder.

    An interrupted run with the same params takes precedence. The checkpoint is not used where the
    number of steps changes earlier steps; the first worker then prints the reason.
    """
    if workers.is_main and not checkpoints(stage.scratch):
        for done, path in checkpoints(_kept(stage, section)):
            reason = _length_matters(settings, done)
            if reason is None and done < settings.length:
                with atomic_path(stage.scratch / path.name) as temporary:
                    shutil.copy(path, temporary)
            elif done != settings.length:  # else: asked to run again
                reason = reason or "more than it now has"
                print(f"{stage.name}: starts over; it was run for {done} steps, {reason}")
    workers.barrier()


def keep_final(stage: Stage, section: str) -> None:
    """Keeps the last checkpoint of a finished training, and removes the one kept before it."""
    for old in FINISHED.glob(f"{stage.name}-*"):
        shutil.rmtree(old, ignore_errors=True)
    found = checkpoints(stage.scratch)
    if found:
        folder = _kept(stage, section)
        folder.mkdir(parents=True, exist_ok=True)
        found[-1][1].replace(folder / found[-1][1].name)


def _kept(stage: Stage, section: str) -> Path:
    values: dict[str, Any] = copy.deepcopy(dict(stage.values))
    last = values[section]["phases"][-1] if "phases" in values[section] else values[section]
    del last["steps"]
    return FINISHED / f"{stage.name}-{fingerprint_of(stage.name, values, stage.inputs)[:16]}"


def _length_matters(
    settings: TokenizerTraining | PredictorTraining | RapTraining, done: int
) -> str | None:
    """Why a longer training differs within its first `done` steps; None where it does not."""
    if settings.optimiser.lr_schedule == "cosine":
        return "which its learning rates followed (optimiser.lr_schedule cosine)"
    every = settings.codebook_life.revive_every if isinstance(settings, TokenizerTraining) else 0
    if every and done % every == 0:
        return "at the last of which no entry was revived"
    return None
