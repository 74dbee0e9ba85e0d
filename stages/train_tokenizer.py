"""Stage 1: trains the tokenizer on HR crops."""

from pathlib import Path

import torch

from pipeline.loading.dataset import MemberSelection, ShardedDataset
from pipeline.loading.loader import Loader
from pipeline.shards.manifest import Manifest
from stages.params import Params
from stages.runner.launch import run_training
from stages.runner.stage import Stage
from stages.training import (
    VALIDATION_SAMPLES,
    TrainedModel,
    chosen_cache,
    publish_training,
    run_steps,
    start_from,
    start_training,
    starting_weights,
    training_loader,
)
from tvqrap.config.workers import stage_compute
from tvqrap.networks.tokenizer import Tokenizer
from tvqrap.objectives.kmeans_init import KMEANS_BATCHES, check_texture_suffices
from tvqrap.objectives.tokenizer import TokenizerTask
from tvqrap.pretrained.folder import load_tokenizer, read_config
from tvqrap.runtime.errors import UsageError
from tvqrap.training.distributed import Workers

PAIRS = Path("data/pairs")


def starting_tokenizer(params: Params) -> tuple[Tokenizer, int, Path | None]:
    """(the tokenizer to train, its first steps without quantization, the model it starts from).

    Raises `UsageError` where its codebook cannot be set by k-means.
    """
    settings = params.tokenizer
    given = starting_weights(params.init, ("tokenizer",), params.tokenizer_architecture)
    torch.manual_seed(params.seed)
    tokenizer = Tokenizer(params.tokenizer_architecture)
    if given is None:
        return tokenizer, settings.codebook_life.vq_warmup_steps, None
    start = load_tokenizer(given)
    same_codebook = start.architecture == tokenizer.architecture
    start_from(start, tokenizer, same_codebook=same_codebook)
    if same_codebook:
        return tokenizer, 0, given
    if settings.steps <= KMEANS_BATCHES:
        raise UsageError(
            f"tokenizer.steps is {settings.steps}; with a codebook of another size than that of "
            f"{given}, expected more than {KMEANS_BATCHES}, which set its entries"
        )
    try:
        check_texture_suffices(
            params.codebook,
            vq_warmup_steps=KMEANS_BATCHES,
            batch=settings.batch_size,
            crop=Manifest.load(PAIRS / settings.set).crop_size,
            texture=params.texture,
        )
    except ValueError as error:
        raise UsageError(f"{error}, as its size is not that of {given}") from None
    return tokenizer, KMEANS_BATCHES, given


def train_tokenizer(stage: Stage, workers: Workers) -> None:
    """data/pairs -> models/tokenizer, curves/tokenizer, curves/pictures/tokenizer."""
    params = stage.params
    settings = params.tokenizer
    tokenizer, vq_warmup_steps, given = starting_tokenizer(params)
    started_from = None if given is None else read_config(given).fingerprint
    model = TrainedModel("tokenizer", "tokenizer", tokenizer.architecture, started_from)
    record = start_training(stage, model, tokenizer, settings, workers)
    wanted = MemberSelection(hr=True)
    validation = Loader(
        ShardedDataset.open(PAIRS / "val"), wanted, seed=params.seed, batch_size=settings.batch_size
    )
    task = TokenizerTask(
        tokenizer,
        settings,
        stage_compute(settings, params.compute),
        seed=params.seed,
        vq_warmup_steps=vq_warmup_steps,
        validation=validation.all(VALIDATION_SAMPLES),
        workers=workers,
    )
    source = ShardedDataset.open(PAIRS / settings.set, cache=chosen_cache())
    wanted = MemberSelection(hr=True, teacher=settings.teacher > 0)
    loader = training_loader(source, wanted, settings.batch_size, params, workers)
    history = run_steps(stage, task, settings, loader.batches, record, workers)
    if workers.is_main:
        publish_training(stage, model, task.learner.average.module, history, record)


if __name__ == "__main__":
    run_training("train_tokenizer", train_tokenizer)
