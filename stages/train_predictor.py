"""Stage 2: trains the predictor on LR images and extracted tokens."""

from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import torch

from pipeline.loading import Loader, Source, Wanted
from pipeline.tokens import check_tokens
from stages.continuing import go_on, keep
from stages.launch import run_training
from stages.stage import Stage
from stages.tensorboard import tensorboard
from stages.training import (
    VALIDATION_SAMPLES,
    from_other_photos,
    publish_model,
    start_from,
    starting_weights,
)
from tvqrap.architecture import Architecture
from tvqrap.model_folder import read_card
from tvqrap.network import UpscalerNetwork
from tvqrap.training.batch import Batch
from tvqrap.training.distributed import Workers
from tvqrap.training.engine import train
from tvqrap.training.predictor import PredictorTrainee
from tvqrap.upscaler_folder import load_frozen_parts, load_upscaler

PAIRS = Path("data/pairs")
TOKENS = Path("data/tokens")
TOKENIZER = Path("models/tokenizer")


def starting_upscaler(init: str, architecture: Architecture) -> tuple[UpscalerNetwork, str | None]:
    """The upscaler to train in stage 2, and the fingerprint of the weights it starts from."""
    given = starting_weights(init, ("rap", "predictor"), architecture)
    network = UpscalerNetwork(architecture)
    if given is None:
        return network, None
    start = load_upscaler(given)
    start_from(start, network, same_codebook=start.architecture == architecture)
    return network, read_card(given).fingerprint


def train_predictor(stage: Stage, workers: Workers) -> None:
    """data/tokens, models/tokenizer -> models/predictor, curves/predictor.

    The HR images of the pairs are looked at for validation alone; of the other sets of pairs it is
    enough to know which they are.
    """
    params = stage.params
    settings = params.predictor
    wanted = Wanted(lr=True, tokens=True)
    torch.manual_seed(params.seed)
    network, started_from = starting_upscaler(params.init, params.architecture)
    load_frozen_parts(TOKENIZER, network)
    check_tokens(TOKENS / "val", TOKENIZER, pairs=PAIRS / "val")
    loaders, entropies = [], []
    for phase in settings.phases:
        manifest = check_tokens(TOKENS / phase.set, TOKENIZER, pairs_listed_in=PAIRS)
        entropies.append(manifest.extra["code_entropy"])
        source = Source.open(TOKENS / phase.set)
        loaders.append(
            Loader(source, wanted, seed=params.seed, batch=phase.batch, part=workers.part)
        )
    validation = Loader(
        Source.open(PAIRS / "val", TOKENS / "val"),
        Wanted(hr=True, lr=True, tokens=True),
        seed=params.seed,
        batch=VALIDATION_SAMPLES,
    ).all(VALIDATION_SAMPLES)
    trainee = PredictorTrainee(
        network,
        settings,
        params.compute,
        validation=validation,
        others=from_other_photos(validation),
        code_entropy=entropies[0],
        workers=workers,
    )

    def batches(step: int) -> Generator[Batch, None, None]:
        first = 0
        for phase, loader in zip(settings.phases, loaders, strict=True):
            end = first + phase.steps
            if step < end:
                with closing(loader.batches(step - first)) as source:
                    for _ in range(step, end):
                        yield next(source)
                step = end
            first = end

    go_on(stage, settings, "predictor", workers)
    history = train(
        trainee,
        title="train_predictor",
        steps=trainee.steps,
        batches=batches,
        monitoring=settings.monitoring,
        folder=stage.scratch,
        workers=workers,
        report=tensorboard(stage, workers),
    )
    if not workers.first:
        return
    network.predictor.load_state_dict(trainee.average.module.state_dict())
    publish_model(
        stage,
        "predictor",
        "upscaler",
        network,
        params.architecture,
        history,
        steps=trainee.steps,
        started_from=started_from,
    )
    keep(stage, "predictor")


if __name__ == "__main__":
    run_training("train_predictor", train_predictor)
