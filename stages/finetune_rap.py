"""Stage 3: reconstruction-aware prediction, fine-tuning through the decoder."""

from dataclasses import replace
from pathlib import Path

import torch

from pipeline.loading.dataset import MemberSelection, ShardedDataset
from pipeline.loading.loader import Loader
from pipeline.tokens.check import check_tokens
from stages.runner.launch import run_training
from stages.runner.stage import Stage
from stages.training import (
    VALIDATION_SAMPLES,
    TrainedModel,
    chosen_cache,
    publish_training,
    run_steps,
    start_training,
    starting_weights,
    training_loader,
)
from tvqrap.config.training import RapTraining
from tvqrap.config.workers import stage_compute
from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.objectives.rap import RapTask
from tvqrap.pretrained.folder import read_config
from tvqrap.pretrained.upscaler import check_frozen_parts, load_upscaler
from tvqrap.training.distributed import Workers

PAIRS = Path("data/pairs")
TOKENS = Path("data/tokens")
TOKENIZER = Path("models/tokenizer")
PREDICTOR = Path("models/predictor")


def start_with_decoder(network: UpscalerNetwork, init: str) -> None:
    """Copies the decoder of `init`'s upscaler, if there is one, to a network that trains it.

    An earlier stage 3 may have trained that decoder; the tokenizer's would undo this.
    """
    given = starting_weights(init, ("rap",), network.architecture)
    if given is not None:
        network.decoder.load_state_dict(load_upscaler(given).decoder.state_dict())


def has_tokens(settings: RapTraining) -> bool:
    """Whether token losses are used."""
    return bool(settings.loss_weights.structure or settings.loss_weights.code)


def opened(name: str, settings: RapTraining) -> ShardedDataset:
    """A set: its pairs, and its tokens where token losses are used."""
    cache = chosen_cache()
    if not has_tokens(settings):
        return ShardedDataset.open(PAIRS / name, cache=cache)
    check_tokens(TOKENS / name, TOKENIZER, pairs=PAIRS / name)
    return ShardedDataset.open(PAIRS / name, TOKENS / name, cache=cache)


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
    started_from = read_config(PREDICTOR).fingerprint
    model = TrainedModel("rap", "upscaler", network.architecture, started_from, settings.assignment)
    record = start_training(stage, model, network, settings, workers)
    wanted = MemberSelection(hr=True, lr=True, tokens=has_tokens(settings))
    validation = Loader(
        opened("val", settings), wanted, seed=params.seed, batch_size=settings.batch_size
    )
    source = opened(settings.set, settings)
    wanted = replace(wanted, teacher=settings.teacher.any)
    training = training_loader(source, wanted, settings.batch_size, params, workers)
    task = RapTask(
        network,
        settings,
        stage_compute(settings, params.compute),
        validation=validation.all(VALIDATION_SAMPLES),
        workers=workers,
    )
    history = run_steps(stage, task, settings, training.batches, record, workers)
    if workers.is_main:
        network.load_state_dict(task.learner.average.module.state_dict())
        publish_training(stage, model, network, history, record)


if __name__ == "__main__":
    run_training("finetune_rap", finetune_rap)
