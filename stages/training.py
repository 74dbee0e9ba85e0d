"""Parts that the training stages share: starting weights, the training, publishing."""

import math
import os
import shutil
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from pipeline.loading.dataset import MemberSelection, ShardedDataset
from pipeline.loading.loader import Loader
from pipeline.loading.mixture import Mixture
from pipeline.storage.shard_cache import ShardCache
from stages.runner.curve_sinks import CurveSinks
from stages.runner.publish import publish
from stages.runner.resume import NETWORK, find_start, keep_final
from stages.runner.stage import Stage
from tvqrap.architecture import Architecture, Assignment
from tvqrap.config.workers import Training
from tvqrap.pretrained.folder import Kind, holds_model, read_config, save_model
from tvqrap.runtime.device import means_cuda
from tvqrap.runtime.errors import UsageError, UserError
from tvqrap.training.batch import Batch
from tvqrap.training.curves import History
from tvqrap.training.distributed import Workers
from tvqrap.training.loop import PICTURES, TrainingTask, train
from tvqrap.training.record import TrainingRecord

CACHE = "TVQRAP_SHARD_CACHE"
CACHE_SIZE = "TVQRAP_SHARD_CACHE_GB"

CODEBOOK_SIZED = ("codebook.embedding.weight", "predictor.code_head.score.weight")
"""Weights with a row for each entry of the codebook."""

VALIDATION_SAMPLES = 32
"""Samples of the set `val` that a training validates with."""
PUBLISHED_PICTURES = 4
"""Number of the training's pictures that are published."""


def starting_weights(init: str, names: Sequence[str], architecture: Architecture) -> Path | None:
    """The first of the model folders `names` that exists in `init`; None where none does.

    Its codebook may have another size. Raises `UsageError` where `init` is no folder, `UserError`
    where its model has another architecture.
    """
    folder = Path(init)
    if not folder.is_dir():
        raise UsageError(f"init is {init!r}, which is no folder; models/none starts from scratch")
    given = next((folder / name for name in names if holds_model(folder / name)), None)
    if given is not None:
        found = read_config(given).architecture
        if replace(found, codebook=architecture.codebook) != architecture:
            raise UserError(
                f"{given}: {found}, but params.yaml asks for {architecture}; init: models/none "
                "starts from scratch"
            )
    return given


def start_from(given: nn.Module, module: nn.Module, *, same_codebook: bool) -> None:
    """Copies the weights of `given` to `module`, but for `CODEBOOK_SIZED` with another codebook."""
    kept = () if same_codebook else CODEBOOK_SIZED
    own = {name: value for name, value in module.state_dict().items() if name in kept}
    module.load_state_dict({**given.state_dict(), **own})


def training_loader(
    sets: ShardedDataset | Mixture,
    members: MemberSelection,
    batch_size: int,
    params: Any,
    workers: Workers,
) -> Loader:
    """A worker's loader; of the stage's `params` it reads seed and device."""
    return Loader(
        sets,
        members,
        seed=params.seed,
        batch_size=batch_size,
        part=workers.microbatch,
        pinned=means_cuda(params.compute.device),
    )


def chosen_cache() -> ShardCache | None:
    """The cache in the folder TVQRAP_SHARD_CACHE with TVQRAP_SHARD_CACHE_GB; none without them.

    It changes no result, so the environment names it rather than params: machines differ. Raises
    `UsageError` where one of the two is missing or the size is no positive number.
    """
    folder, size = (os.environ.get(name) or None for name in (CACHE, CACHE_SIZE))
    if folder is None and size is None:
        return None
    if folder is None or size is None:
        missing = CACHE if folder is None else CACHE_SIZE
        raise UsageError(f"{missing} is empty, expected {CACHE} and {CACHE_SIZE} or neither")
    try:
        gigabytes = float(size)
    except ValueError:
        gigabytes = math.nan
    if not 0 < gigabytes < math.inf:
        raise UsageError(f"{CACHE_SIZE} is {size!r}, expected a number of gigabytes above 0")
    try:
        return ShardCache(Path(folder).absolute(), int(gigabytes * 1e9))
    except OSError as error:
        raise UsageError(f"{CACHE} is {folder!r}, which cannot be used: {error}") from None


@dataclass(frozen=True)
class TrainedModel:
    """The model that a stage trains."""

    name: str
    """Folder in `models` and `curves`, and section of the params."""
    kind: Kind
    architecture: Architecture
    started_from: str | None
    """Fingerprint of the weights that the training began with; none: from scratch."""
    assignment: Assignment | None = None
    """An upscaler's assignment; hard if not given."""

    def save(self, folder: Path, module: nn.Module, about: dict[str, Any]) -> None:
        """Writes weights of this model as a model folder."""
        save_model(folder, self.kind, module, self.architecture, about, self.assignment)


def start_training(
    stage: Stage, model: TrainedModel, network: nn.Module, settings: Training, workers: Workers
) -> TrainingRecord:
    """Finds the checkpoint to start from, and returns the record of this run.

    The main worker writes `network` beside the checkpoints, which hold less: `tvqrap-cli runs
    export` makes models of both.
    """
    record = find_start(stage, settings, model.name, workers)
    if workers.is_main and not holds_model(stage.scratch / NETWORK):
        about = {"stage": stage.name, "steps": 0, "started_from": model.started_from}
        model.save(stage.scratch / NETWORK, network, about)
    return record


def run_steps(
    stage: Stage,
    task: TrainingTask,
    settings: Training,
    batches: Callable[[int], Generator[Batch, None, None]],
    record: TrainingRecord,
    workers: Workers,
) -> History:
    """Trains for the steps of the stage's `settings`; the curves go to the chosen sinks as well."""
    with CurveSinks(stage, workers) as sinks:
        return train(
            task,
            title=stage.name,
            steps=settings.length,
            batches=batches,
            monitoring=settings.monitoring,
            folder=stage.scratch,
            workers=workers,
            sink=sinks,
            record=record,
        )


def publish_training(
    stage: Stage, model: TrainedModel, module: nn.Module, history: History, record: TrainingRecord
) -> None:
    """Publishes the results of a training, and keeps its last checkpoint.

    They are models/`name`, curves/`name` and curves/pictures/`name`.
    """
    about = {
        "stage": stage.name,
        "steps": int(history.validation[-1]["step"]),
        "run": stage.fingerprint,
        "started_from": model.started_from,
        "workers": record.params["workers"],
        "compute": {
            key.removeprefix("compute."): value
            for key, value in record.params.items()
            if key.startswith("compute.")
        },
        "changes": record.changes,
    }
    trained, curves, pictures = (stage.scratch / part for part in ("model", "curves", "shown"))
    model.save(trained, module.float(), about)
    history.write(curves)
    shutil.rmtree(pictures, ignore_errors=True)
    pictures.mkdir()
    for picture in _spread(sorted((stage.scratch / PICTURES).glob("*.png"))):
        shutil.copy(picture, pictures)
    publish(trained, Path("models") / model.name)
    publish(curves, Path("curves") / model.name)
    publish(pictures, Path("curves/pictures") / model.name)
    keep_final(stage, model.name)


def _spread(pictures: Sequence[Path]) -> list[Path]:
    """`PUBLISHED_PICTURES` of the pictures, evenly spaced, the first and the last among them."""
    last = len(pictures) - 1
    chosen = {round(last * n / (PUBLISHED_PICTURES - 1)) for n in range(PUBLISHED_PICTURES)}
    return [pictures[index] for index in sorted(chosen) if index >= 0]


def from_other_photos(batches: Sequence[Batch]) -> list[Batch]:
    """The batches with each LR image replaced by that of the next sample of another photograph.

    The LR images of a batch with a single photograph stay.
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
