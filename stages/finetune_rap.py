"""Stage 3: reconstruction-aware prediction, fine-tuning through the decoder."""

from pathlib import Path

import torch

from pipeline.loading import Loader, Source, Wanted
from pipeline.tokens import check_tokens
from stages.continuing import go_on, keep
from stages.launch import run_training
from stages.stage import Stage
from stages.tensorboard import tensorboard
from stages.training import VALIDATION_SAMPLES, publish_model, starting_weights
from tvqrap.model_folder import read_card
from tvqrap.network import UpscalerNetwork
from tvqrap.training.distributed import ALONE, Workers
from tvqrap.training.engine import train
from tvqrap.training.rap import RapTrainee
from tvqrap.upscaler_folder import check_frozen_parts, load_upscaler

PAIRS = Path("data/pairs")
TOKENS = Path("data/tokens")
TOKENIZER = Path("models/tokenizer")
PREDICTOR = Path("models/predictor")


def start_with_decoder(network: UpscalerNetwork, init: str) -> None:
    """Gives a network whose decoder is to be trained that of `init`'s upscaler, if it has one.

    An earlier stage 3 may have trained that one; the tokenizer's would undo it.
    """
    given = starting_weights(init, ("rap",), network.architecture)
    if given is not None:
        network.decoder.load_state_dict(load_upscaler(given).decoder.state_dict())


def finetune_rap(stage: Stage, workers: Workers) -> None:
    """data/pairs, data/tokens, models/predictor -> models/rap, curves/rap."""
    params = stage.params
    settings = params.rap
    torch.manual_seed(params.seed)
    # Where predictor training was skipped, models/predictor is what `init` gave.
    network = load_upscaler(PREDICTOR)
    check_frozen_parts(network, PREDICTOR, TOKENIZER)
    if settings.train_decoder:
        start_with_decoder(network, params.init)
    code_level = bool(settings.structure or settings.code)

    def loader(name: str, workers: Workers, teacher: bool = False) -> Loader:
        folders = [PAIRS / name]
        if code_level:
            check_tokens(TOKENS / name, TOKENIZER, pairs=PAIRS / name)
            folders.append(TOKENS / name)
        source = Source.open(*folders)
        wanted = Wanted(hr=True, lr=True, tokens=code_level, teacher=teacher)
        return Loader(source, wanted, seed=params.seed, batch=settings.batch, part=workers.part)

    trainee = RapTrainee(
        network,
        settings,
        params.compute,
        validation=loader("val", ALONE).all(VALIDATION_SAMPLES),
        workers=workers,
    )
    go_on(stage, settings, "rap", workers)
    history = train(
        trainee,
        title="finetune_rap",
        steps=settings.steps,
        batches=loader(settings.set, workers, settings.teacher.any).batches,
        monitoring=settings.monitoring,
        folder=stage.scratch,
        workers=workers,
        report=tensorboard(stage, workers),
    )
    if not workers.first:
        return
    network.load_state_dict(trainee.average.module.state_dict())
    publish_model(
        stage,
        "rap",
        "upscaler",
        network,
        network.architecture,
        history,
        steps=settings.steps,
        started_from=read_card(PREDICTOR).fingerprint,
        assignment=settings.assignment,
    )
    keep(stage, "rap")


if __name__ == "__main__":
    run_training("finetune_rap", finetune_rap)
