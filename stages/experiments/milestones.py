"""Tokenizers on the way of one training, from its milestones (the iterations of Figure 6)."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from stages.experiments.recipe import milestone_row
from stages.runner.trainings import SavedTraining, export_model, saved_trainings
from tvqrap.pretrained.folder import read_config

STAGE = "train_tokenizer"


def training_of(root: Path, model: Path) -> SavedTraining | None:
    """The finished training of the checkout `root` that ended with the weights of `model`."""
    wanted = read_config(model).fingerprint
    with tempfile.TemporaryDirectory() as folder:
        for number, training in enumerate(saved_trainings(root)):
            if training.stage == STAGE and training.finished:
                last = export_model(training, None, Path(folder, str(number)))
                if last.fingerprint == wanted:
                    return training
    return None


def export_milestones(training: SavedTraining, steps: Sequence[int], folder: Path) -> list[Path]:
    """Writes the model of each one of `steps`, named by `milestone_row`; returns their folders."""
    models = []
    for step in steps:
        models.append(folder / milestone_row(step))
        export_model(training, step, models[-1])
    return models
