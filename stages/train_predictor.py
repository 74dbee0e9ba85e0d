"""Stage 2: trains the predictor on LR images and extracted tokens."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from pipeline.loading.dataset import MemberSelection, ShardedDataset
from pipeline.loading.loader import Loader
from pipeline.loading.mixture import Mixture
from pipeline.tokens.check import check_tokens
from stages.runner.launch import run_training
from stages.runner.stage import Stage
from stages.training import (
    VALIDATION_SAMPLES,
    TrainedModel,
    chosen_cache,
    from_other_photos,
    publish_training,
    run_steps,
    start_from,
    start_training,
    starting_weights,
    training_loader,
)
from tvqrap.architecture import Architecture
from tvqrap.config.training import Phase
from tvqrap.config.workers import stage_compute
from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.objectives.predictor import PredictorTask
from tvqrap.pretrained.folder import read_config
from tvqrap.pretrained.upscaler import load_frozen_parts, load_upscaler
from tvqrap.training.batch import Batch
from tvqrap.training.distributed import Workers

PAIRS = Path("data/pairs")
TOKENS = Path("data/tokens")
TOKENIZER = Path("models/tokenizer")


def starting_upscaler(init: str, architecture: Architecture) -> tuple[UpscalerNetwork, str | None]:
    """(the upscaler to train in stage 2, the fingerprint of its starting weights or None)."""
    given = starting_weights(init, ("rap", "predictor"), architecture)
    network = UpscalerNetwork(architecture)
    if given is None:
        return network, None
    start = load_upscaler(given)
    start_from(start, network, same_codebook=start.architecture == architecture)
    return network, read_config(given).fingerprint


def batches_of(
    phases: Sequence[Phase], loaders: Sequence[Loader]
) -> Callable[[int], Generator[Batch, None, None]]:
    """A function that yields the batches of all phases, one after the other, from a step on."""

    def batches(step: int) -> Generator[Batch, None, None]:
        first = 0
        for phase, loader in zip(phases, loaders, strict=True):
            end = first + phase.steps
            if step < end:
                with closing(loader.batches(step - first)) as source:
                    for _ in range(step, end):
                        yield next(source)
                step = end
            first = end

    return batches


def token_loaders(
    phases: Sequence[Phase], params: Any, workers: Workers
) -> tuple[list[Loader], float]:
    """(the loaders of the phases' token sets, the entropy of the codes in the first phase).

    Of a mixture, the entropy is the mean of those of its sets. Checks the sets of all phases first.
    """
    entropies = {
        name: check_tokens(TOKENS / name, TOKENIZER, pairs_listed_in=PAIRS).extra["code_entropy"]
        for phase in phases
        for name in phase.weights
    }
    wanted, cache, loaders = MemberSelection(lr=True, tokens=True), chosen_cache(), []
    for phase in phases:
        sets = {name: ShardedDataset.open(TOKENS / name, cache=cache) for name in phase.weights}
        mixture = Mixture.of(sets, phase.weights)
        loaders.append(training_loader(mixture, wanted, phase.batch_size, params, workers))
    first = phases[0].weights
    mean = sum(first[name] * entropies[name] for name in first) / sum(first.values())
    return loaders, mean


def train_predictor(stage: Stage, workers: Workers) -> None:
    """data/tokens, models/tokenizer -> models/predictor, curves/predictor and its pictures.

    Only validation reads HR images. Of the other sets of pairs, sets.json gives the identity.
    """
    params = stage.params
    settings = params.predictor
    torch.manual_seed(params.seed)
    network, started_from = starting_upscaler(params.init, params.architecture)
    load_frozen_parts(TOKENIZER, network)
    model = TrainedModel("predictor", "upscaler", network.architecture, started_from)
    record = start_training(stage, model, network, settings, workers)
    check_tokens(TOKENS / "val", TOKENIZER, pairs=PAIRS / "val")
    loaders, entropy = token_loaders(settings.phases, params, workers)
    validation = Loader(
        ShardedDataset.open(PAIRS / "val", TOKENS / "val"),
        MemberSelection(hr=True, lr=True, tokens=True),
        seed=params.seed,
        batch_size=VALIDATION_SAMPLES,
    ).all(VALIDATION_SAMPLES)
    task = PredictorTask(
        network,
        settings,
        stage_compute(settings, params.compute),
        validation=validation,
        others=from_other_photos(validation),
        code_entropy=entropy,
        workers=workers,
    )
    batches = batches_of(settings.phases, loaders)
    history = run_steps(stage, task, settings, batches, record, workers)
    if workers.is_main:
        network.predictor.load_state_dict(task.learner.average.module.state_dict())
        publish_training(stage, model, network, history, record)


if __name__ == "__main__":
    run_training("train_predictor", train_predictor)
