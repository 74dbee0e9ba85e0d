"""Trainings of a checkout that have checkpoints: their list, their removal, models of them."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.storage.lock import file_lock
from stages.runner.resume import FINISHED, NETWORK, newest_record, trainings_in
from stages.runner.stage import SCRATCH
from stages.runner.worker import SECTIONS
from tvqrap.pretrained.folder import ModelConfig, load_tokenizer, read_config, save_model
from tvqrap.pretrained.upscaler import load_upscaler
from tvqrap.runtime.errors import UserError, one_line
from tvqrap.training.checkpoint import checkpoints

_TRAINED_PART = {"train_predictor": "predictor."}
"""The part of the network that the average of a stage's checkpoint holds, where it is not whole."""


@dataclass(frozen=True)
class SavedTraining:
    """A folder of checkpoints."""

    folder: Path
    stage: str
    finished: bool
    """Whether the training has ended: its last checkpoint and its milestones are kept."""

    @property
    def name(self) -> str:
        """Its path in the scratch folder."""
        return self.folder.relative_to(self.folder.parents[1 if self.finished else 0]).as_posix()

    @property
    def steps(self) -> list[int]:
        """Steps done at each checkpoint, in order."""
        return [step for step, _ in checkpoints(self.folder)]

    @property
    def bytes(self) -> int:
        """Size of all of its files."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    @property
    def age(self) -> float:
        """Seconds since the newest checkpoint was written."""
        return time.time() - checkpoints(self.folder)[-1][1].stat().st_mtime

    @property
    def changes(self) -> list[dict[str, Any]]:
        """Changes of params and code on the way, as the newest checkpoint has them."""
        found = newest_record(self.folder)
        return found[1].changes if found else []


def saved_trainings(root: Path) -> list[SavedTraining]:
    """The trainings of a checkout, stage by stage; of each the newest first, finished ones last."""
    return [
        SavedTraining(folder, stage, finished)
        for stage in SECTIONS
        for place, finished in ((root / SCRATCH, False), (root / FINISHED, True))
        for folder in trainings_in(place, stage)
    ]


def saved_training(root: Path, name: str) -> SavedTraining:
    """The training of a name. Raises `UserError` that lists the names for another one."""
    found = saved_trainings(root)
    for training in found:
        if training.name == name:
            return training
    names = ", ".join(training.name for training in found) or "no training has a checkpoint"
    raise UserError(f"{name}: no such training, expected one of: {names}")


def delete_training(root: Path, training: SavedTraining) -> None:
    """Removes a training. Raises `UserError` where its stage is running."""
    with file_lock(root / SCRATCH / f"{training.stage}.lock", training.stage):
        shutil.rmtree(training.folder)


def export_model(training: SavedTraining, step: int | None, output: Path) -> ModelConfig:
    """Writes the averaged weights of a checkpoint as a model folder.

    `step` is that of one of its checkpoints; None is the newest. Raises `UserError` where there is
    no such checkpoint, or where it cannot be read.
    """
    found = dict(checkpoints(training.folder))
    chosen = training.steps[-1] if step is None else step
    if chosen not in found:
        raise UserError(
            f"--step: found {chosen}, expected one of {', '.join(map(str, training.steps))}, the "
            f"checkpoints of {training.name}"
        )
    started = read_config(training.folder / NETWORK)
    load = load_tokenizer if started.kind == "tokenizer" else load_upscaler
    module = load(training.folder / NETWORK)
    try:
        saved = torch.load(found[chosen], map_location="cpu", weights_only=True)
        average = saved["task"]["learner"]["average"]["module"]
        part = _TRAINED_PART.get(training.stage, "")
        trained = {f"{part}{name}": value.float() for name, value in average.items()}
        module.load_state_dict({**module.state_dict(), **trained})
        changes = saved["record"]["changes"]
    except MemoryError:
        raise
    except Exception as error:  # a damaged file raises anything
        problem = one_line(error)
        raise UserError(f"{found[chosen]}: not readable as a checkpoint ({problem})") from None
    about = {**started.about, "steps": chosen, "checkpoint_of": training.name, "changes": changes}
    return save_model(output, started.kind, module, started.architecture, about, started.assignment)
