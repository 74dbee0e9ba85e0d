"""Stage 1: trains the tokenizer on HR crops."""

from pathlib import Path

import torch

from pipeline.loading import Loader, Source, Wanted
from pipeline.shards import Manifest
from stages.continuing import go_on, keep
from stages.launch import run_training
from stages.stage import Stage
from stages.tensorboard import tensorboard
from stages.training import VALIDATION_SAMPLES, publish_model, start_from, starting_weights
from tvqrap.errors import UsageError
from tvqrap.model_folder import load_tokenizer, read_card
from tvqrap.tokenizer import Tokenizer
from tvqrap.training.codebook_start import KMEANS_BATCHES, check_texture_suffices
from tvqrap.training.distributed import Workers
from tvqrap.training.engine import train
from tvqrap.training.tokenizer import TokenizerTrainee

PAIRS = Path("data/pairs")


def train_tokenizer(stage: Stage, workers: Workers) -> None:
    """pairs -> models/tokenizer, curves/tokenizer."""
    params = stage.params
    settings = params.tokenizer
    given = starting_weights(params.init, ("tokenizer",), params.architecture)
    torch.manual_seed(params.seed)
    tokenizer = Tokenizer(params.architecture)
    unquantized = settings.codebook_life.unquantized
    if given is not None:
        start = load_tokenizer(given)
        same_codebook = start.architecture == params.architecture
        start_from(start, tokenizer, same_codebook=same_codebook)
        unquantized = 0
        if not same_codebook:
            unquantized = KMEANS_BATCHES
            if settings.steps <= unquantized:
                raise UsageError(
                    f"tokenizer.steps is {settings.steps}; with a codebook of another size than "
                    f"that of {given} it takes more than {unquantized}, which set its entries"
                )
            try:
                check_texture_suffices(
                    params.codebook,
                    unquantized=unquantized,
                    batch=settings.batch,
                    crop=int(Manifest.load(PAIRS / settings.set).params["settings"]["size"]),
                    texture=params.texture,
                )
            except ValueError as error:
                raise UsageError(f"{error}, as it has not the size of that of {given}") from None
    wanted = Wanted(hr=True)
    validation = Loader(Source.open(PAIRS / "val"), wanted, seed=params.seed, batch=settings.batch)
    trainee = TokenizerTrainee(
        tokenizer,
        settings,
        params.compute,
        seed=params.seed,
        unquantized=unquantized,
        validation=validation.all(VALIDATION_SAMPLES),
        workers=workers,
    )
    source = Source.open(PAIRS / settings.set)
    wanted = Wanted(hr=True, teacher=settings.teacher > 0)
    loader = Loader(source, wanted, seed=params.seed, batch=settings.batch, part=workers.part)
    go_on(stage, settings, "tokenizer", workers)
    history = train(
        trainee,
        title="train_tokenizer",
        steps=settings.steps,
        batches=loader.batches,
        monitoring=settings.monitoring,
        folder=stage.scratch,
        workers=workers,
        report=tensorboard(stage, workers),
    )
    if not workers.first:
        return
    publish_model(
        stage,
        "tokenizer",
        "tokenizer",
        trainee.average.module,
        params.architecture,
        history,
        steps=settings.steps,
        started_from=None if given is None else read_card(given).fingerprint,
    )
    keep(stage, "tokenizer")


if __name__ == "__main__":
    run_training("train_tokenizer", train_tokenizer)
