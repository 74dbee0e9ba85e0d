"""Stage 3: reconstruction-aware prediction, fine-tuning through the frozen decoder."""

from pathlib import Path

import torch

from pipeline.loading import Loader, Source, Wanted
from pipeline.tokens import check_tokens
from stages.stage import Stage, run_stage
from stages.training import VALIDATION_SAMPLES, publish_model
from tvqrap.model_folder import read_card
from tvqrap.training.engine import train
from tvqrap.training.rap import RapTrainee
from tvqrap.upscaler_folder import load_upscaler

PAIRS = Path("data/pairs")
TOKENS = Path("data/tokens")
TOKENIZER = Path("models/tokenizer")
PREDICTOR = Path("models/predictor")


def finetune_rap(stage: Stage) -> None:
    """data/pairs, data/tokens, models/predictor -> models/rap, curves/rap."""
    params = stage.params
    settings = params.rap
    torch.manual_seed(params.seed)
    # Where predictor training was skipped, models/predictor is what `init` gave.
    network = load_upscaler(PREDICTOR)
    code_level = bool(settings.structure or settings.code)
    wanted = Wanted(hr=True, lr=True, tokens=code_level)

    def loader(name: str, batch: int) -> Loader:
        folders = [PAIRS / name]
        if code_level:
            check_tokens(TOKENS / name, TOKENIZER, pairs=PAIRS / name)
            folders.append(TOKENS / name)
        return Loader(Source.open(*folders), wanted, seed=params.seed, batch=batch)

    trainee = RapTrainee(
        network,
        settings,
        params.compute,
        validation=loader("val", settings.batch).all(VALIDATION_SAMPLES),
    )
    history = train(
        trainee,
        title="finetune_rap",
        steps=settings.steps,
        batches=loader(settings.set, settings.batch).batches,
        monitoring=settings.monitoring,
        checkpoints=stage.scratch,
    )
    network.predictor.load_state_dict(trainee.average.module.state_dict())
    publish_model(
        stage,
        "rap",
        "upscaler",
        network,
        network.architecture,
        history,
        steps=settings.steps,
        started_from=read_card(PREDICTOR).fingerprint,
    )


if __name__ == "__main__":
    run_stage("finetune_rap", finetune_rap)
