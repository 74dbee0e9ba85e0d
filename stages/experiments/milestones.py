"""Tokenizers on the way of one training, from its milestones (the iterations of Figure 6)."""

from collections.abc import Sequence
from pathlib import Path

from stages.experiments.recipe import milestone_row
from stages.runner.trainings import export_model, saved_trainings
from tvqrap.pretrained.folder import read_config
from tvqrap.runtime.errors import UserError
from tvqrap.training.checkpoint import checkpoints, read_entry

STAGE = "train_tokenizer"


def export_milestones(
    checkouts: Sequence[Path], model: Path, steps: Sequence[int], out: Path
) -> list[Path] | None:
    """Writes the tokenizers after `steps` of the training that ended with the weights of `model`.

    The training is one of those that the checkouts keep. Returns the folders of the tokenizers,
    named as their rows; None where no checkout has the training with all of these steps.
    """
    config = read_config(model)
    last = config.about["steps"]
    for training in (each for root in checkouts for each in saved_trainings(root)):
        kept = dict(checkpoints(training.folder))
        if training.stage != STAGE or not kept.keys() >= {*steps, last}:
            continue
        # Trainings of other lengths share the folder.
        records = [read_entry(kept[step], "record") for step in (*steps, last)]
        if any(record is None or record["params"] != records[-1]["params"] for record in records):
            continue
        folders = [out / milestone_row(step) for step in steps]
        try:
            if export_model(training, last, out / "last").fingerprint != config.fingerprint:
                continue
            for step, folder in zip(steps, folders, strict=True):
                export_model(training, step, folder)
        except UserError:  # damaged; there may be another
            continue
        return folders
    return None
