"""Tiny real networks, settings and batches for the training tests."""

import signal
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.support.profile import smoke
from tests.support.states import assert_close_states
from tvqrap.architecture import Architecture
from tvqrap.config.training import (
    Compute,
    Monitoring,
    PredictorTraining,
    RapTraining,
    TokenizerTraining,
)
from tvqrap.networks.tokenizer import Tokenizer
from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.objectives.predictor import PredictorTask
from tvqrap.objectives.rap import RapTask
from tvqrap.objectives.tokenizer import TokenizerTask
from tvqrap.training.batch import Batch
from tvqrap.training.curves import History
from tvqrap.training.distributed import ALONE, Workers
from tvqrap.training.loop import train

ARCHITECTURE = Architecture(width=0.0625, codebook=16, texture=4, structure=8, swin_blocks=2)
COMPUTE = Compute.model_validate(smoke("compute"))
SIDE = 64

OPTIMISER = {
    "learning_rate": 1e-3,
    "betas": [0.5, 0.9],
    "warmup_steps": 2,
    "lr_schedule": "cosine",
    "lr_floor": 0.02,
    "lr_milestones": [],
    "lr_factor": 0.5,
    "grad_clip_norm": 1.0,
    "ema_decay": 0.9,
}
MONITORING = smoke("rap")["monitoring"]
_SMALL = {"batch_size": 2, "steps": 8, "optimiser": OPTIMISER}
"""Values in the place of the profile's, for stages 1 and 3."""


def image_losses(adversarial: float = 0.5, perceptual: float = 0.5) -> dict[str, Any]:
    return {
        "mse": 1.0,
        "l1": 0.5,
        "gradient": 0.5,
        "chroma": 0.5,
        "grid": 0.5,
        "contrast": 0.5,
        "perceptual": {
            "network": "stlpips_alex",
            "weight": perceptual,
            "share": 0.5,
            "augment": False,
        },
        "adversarial": {
            "weight": adversarial,
            "start": 1,
            "warmup_steps": 0,
            "learning_rate": 1e-3,
            "width": 0.0625,
            "discriminator": "patch",
            "matching": 0.0,
        },
    }


def tokenizer_settings(**changes: Any) -> TokenizerTraining:
    return TokenizerTraining.model_validate(
        {
            **smoke("tokenizer"),
            **_SMALL,
            "image": image_losses(),
            "texture_dropout": 0.0,
            "codebook_life": {"vq_warmup_steps": 2, "revive_every": 2},
            **changes,
        }
    )


def predictor_settings(**changes: Any) -> PredictorTraining:
    return PredictorTraining.model_validate(
        {
            **smoke("predictor"),
            "phases": [{"set": "train", "batch_size": 2, "steps": 8}],
            "optimiser": OPTIMISER,
            **changes,
        }
    )


def rap_settings(**changes: Any) -> RapTraining:
    return RapTraining.model_validate(
        {
            **smoke("rap"),
            **_SMALL,
            "image": image_losses(),
            "loss_weights": {"structure": 1.0, "code": 0.5},
            **changes,
        }
    )


def batch(number: int, architecture: Architecture = ARCHITECTURE) -> Batch:
    """The batch of a step: smooth random images and random tokens, always the same."""
    return batch_of(2, number, architecture)


def batch_of(samples: int, number: int, architecture: Architecture = ARCHITECTURE) -> Batch:
    """`batch` with another number of samples."""
    generator = torch.Generator().manual_seed(number)

    def image(side: int) -> Tensor:
        coarse = torch.rand(samples, 3, 8, 8, generator=generator)
        large = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic")
        return (large.clamp(0, 1) * 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()

    codes = SIDE // architecture.texture
    structure = None
    if architecture.structure is not None:
        side = SIDE // architecture.structure
        structure = torch.randn(
            samples, architecture.structure_channels, side, side, generator=generator
        ).half()
    return Batch(
        keys=tuple(f"{chr(97 + each)}_{number:05d}" for each in range(samples)),
        hr=image(SIDE),
        lr=image(SIDE // 4),
        structure=structure,
        codes=torch.randint(architecture.codebook, (samples, codes, codes), generator=generator),
        teacher=image(SIDE),
    )


def tokenizer_task(
    architecture: Architecture = ARCHITECTURE,
    trained_before: bool = False,
    compute: Compute = COMPUTE,
    workers: Workers = ALONE,
    **changes: Any,
) -> TokenizerTask:
    torch.manual_seed(0)
    settings = tokenizer_settings(**changes)
    return TokenizerTask(
        Tokenizer(architecture),
        settings,
        compute,
        seed=0,
        vq_warmup_steps=0 if trained_before else settings.codebook_life.vq_warmup_steps,
        validation=[batch(1000, architecture)],
        workers=workers,
    )


def predictor_task(
    architecture: Architecture = ARCHITECTURE,
    compute: Compute = COMPUTE,
    workers: Workers = ALONE,
    **changes: Any,
) -> PredictorTask:
    torch.manual_seed(0)
    return PredictorTask(
        UpscalerNetwork(architecture),
        predictor_settings(**changes),
        compute,
        validation=[batch(1000, architecture)],
        others=[batch(1001, architecture)],
        code_entropy=2.0,
        workers=workers,
    )


def rap_task(
    architecture: Architecture = ARCHITECTURE,
    compute: Compute = COMPUTE,
    workers: Workers = ALONE,
    **changes: Any,
) -> RapTask:
    torch.manual_seed(0)
    network = UpscalerNetwork(architecture)
    torch.nn.init.normal_(network.codebook.embedding.weight)  # spread out, as a trained one is
    return RapTask(
        network,
        rap_settings(**changes),
        compute,
        validation=[batch(1000, architecture)],
        workers=workers,
    )


STEPS = 8
TASKS = {
    "tokenizer": tokenizer_task,
    "predictor": predictor_task,
    "rap": rap_task,
    "rap, decoder": partial(rap_task, train_decoder=True),
    "rap, soft": partial(rap_task, train_decoder=True, assignment="soft"),
}


def batches(step: int) -> Generator[Batch, None, None]:
    while True:
        yield batch(step)
        step += 1


def stopping(at: int, source: Any = batches) -> Any:
    """`source`, which asks this process to stop (SIGTERM) before the batch of step `at`."""

    def stopped(step: int) -> Generator[Batch, None, None]:
        for number, given in enumerate(source(step), start=step):
            if number == at:
                signal.raise_signal(signal.SIGTERM)
            yield given

    return stopped


def run(
    task: Any,
    folder: Path,
    source: Any = batches,
    monitoring: dict[str, Any] = MONITORING,
    steps: int = STEPS,
    **options: Any,
) -> History:
    return train(
        task,
        title="test",
        steps=steps,
        batches=source,
        monitoring=Monitoring.model_validate(monitoring),
        folder=folder,
        **options,
    )


def assert_equal_states(ours: Any, theirs: Any) -> None:
    assert_close_states(ours, theirs, tolerance=0)
