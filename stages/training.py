"""What the training stages share: weights to start from, and validation samples."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tvqrap.architecture import Architecture
from tvqrap.errors import UsageError, UserError
from tvqrap.model_folder import holds_model, read_card
from tvqrap.training.batch import Batch

VALIDATION_SAMPLES = 32
"""Samples of the set `val` that a training looks at."""


def starting_weights(init: str, names: Sequence[str], architecture: Architecture) -> Path | None:
    """The first of `init`'s model folders that is there; none where `init` holds no models.

    Raises `UsageError` where `init` itself is not there, `UserError` where its model has another
    architecture.
    """
    folder = Path(init)
    if not folder.is_dir():
        raise UsageError(f"init is {init!r}, which is no folder; models/none starts from scratch")
    given = next((folder / name for name in names if holds_model(folder / name)), None)
    if given is not None and read_card(given).architecture != architecture:
        raise UserError(
            f"{given}: {read_card(given).architecture}, but params.yaml asks for {architecture}"
        )
    return given


def from_other_photos(batches: Sequence[Batch]) -> list[Batch]:
    """The batches with each LR image taken from the next sample of another photograph.

    Where a batch shows one photograph only, its LR images stay their own.
    """
    others = []
    for batch in batches:
        photos = [key.rsplit("_", 1)[0] for key in batch.keys]
        count = len(photos)
        chosen = [
            next(
                (
                    other % count
                    for other in range(index + 1, index + count)
                    if photos[other % count] != photos[index]
                ),
                index,
            )
            for index in range(count)
        ]
        assert batch.lr is not None
        others.append(replace(batch, lr=batch.lr[chosen]))
    return others
