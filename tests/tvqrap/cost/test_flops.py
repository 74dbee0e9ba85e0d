"""What a step is said to cost, against the published numbers and against steps that are run."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.support.training import (
    ARCHITECTURE,
    COMPUTE,
    SIDE,
    batch,
    image_losses,
    predictor_settings,
    predictor_task,
    rap_settings,
    rap_task,
    tokenizer_settings,
    tokenizer_task,
)
from tvqrap.architecture import Architecture
from tvqrap.cost.flops import (
    StepCost,
    measure,
    predictor_step,
    rap_step,
    tokenizer_step,
    tokenizing_operations,
)
from tvqrap.networks.blocks import Up
from tvqrap.networks.codebook import Quantized
from tvqrap.networks.tokenizer import Tokenizer
from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.objectives.predictor import PredictorTask
from tvqrap.objectives.rap import RapTask
from tvqrap.objectives.tokenizer import TokenizerTask

VANILLA = Architecture(width=0.0625, codebook=16, texture=4, structure=None, swin_blocks=2)
GIGA = 1e9


def billions(network: nn.Module, *inputs: Tensor) -> dict[str, float]:
    """Operations of a forward pass by module, the network itself as ''."""
    with FlopCounterMode(display=False) as counter:
        network(*inputs)
    name = type(network).__name__
    return {
        module.removeprefix(name).removeprefix("."): sum(counts.values()) / GIGA
        for module, counts in counter.get_flop_counts().items()
    }


@pytest.fixture
def enlarging_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Up` as published, which convolves the enlarged map: nine products where ours takes four."""

    def forward(self: Up, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))

    monkeypatch.setattr(Up, "forward", forward)


class Passing(nn.Module):
    """In the codebook's place: which entry is nearest cannot be known without numbers."""

    def quantize(self, z: Tensor) -> Quantized:
        return Quantized(z, z, z, z)


@pytest.mark.usefixtures("enlarging_first")
def test_the_published_networks_arithmetic() -> None:
    """64x64 to 256x256, in GFLOP; a step of stage 2 is forward and backward."""
    with torch.device("meta"):
        network, tokenizer = UpscalerNetwork(Architecture()), Tokenizer(Architecture())
        lr, hr = torch.empty(1, 3, 64, 64), torch.empty(1, 3, 256, 256)
    tokenizer.codebook = Passing()  # type: ignore[assignment]
    found = billions(network, lr)
    for module, published in {
        "": 201,
        "predictor.lr_encoder": 41.6,
        "predictor.structure_head": 0.07,
        "structure_decoder": 5.5,
        "predictor.code_head": 38.3,
        "decoder": 115.8,
    }.items():
        assert found[module] == pytest.approx(published, abs=0.5 if not module else 0.05), module
    found = billions(tokenizer, hr)
    assert found["encoder"] == pytest.approx(65.9, abs=0.05)
    assert found["structure_decoder"] + found["fuse"] == pytest.approx(13.0, abs=0.05)
    assert tokenizing_operations(Architecture(), 256) / GIGA == pytest.approx(79, abs=0.5)
    step = predictor_step(Architecture(), predictor_settings(), batch_size=1, side=256)
    assert step.operations["network"] / GIGA == pytest.approx(245, abs=0.5)


def test_ours_takes_less_to_enlarge() -> None:
    with torch.device("meta"):
        network, lr = UpscalerNetwork(Architecture()), torch.empty(1, 3, 64, 64)
    assert billions(network, lr)[""] == pytest.approx(185, abs=0.5)


TrainingTask = TokenizerTask | PredictorTask | RapTask

VGG = image_losses(adversarial=0.0)
VGG["perceptual"] = {"network": "stlpips_vgg", "weight": 1.0, "share": 1.0, "augment": False}
PLAIN = image_losses(adversarial=0.0, perceptual=0.0)
MATCHING = image_losses()
MATCHING["adversarial"] |= {"discriminator": "unet", "matching": 1.0}


def stage_1(
    architecture: Architecture, recompute: bool = False, **changes: object
) -> tuple[TrainingTask, StepCost]:
    settings = tokenizer_settings(**changes)
    compute = COMPUTE.model_copy(update={"activation_checkpointing": recompute})
    task = tokenizer_task(architecture, trained_before=True, compute=compute, **changes)
    return task, tokenizer_step(architecture, settings, SIDE, recompute)


def stage_2(architecture: Architecture) -> tuple[TrainingTask, StepCost]:
    settings = predictor_settings()
    cost = predictor_step(architecture, settings, settings.phases[0].batch_size, SIDE)
    return predictor_task(architecture), cost


def stage_3(
    architecture: Architecture, recompute: bool = False, **changes: object
) -> tuple[TrainingTask, StepCost]:
    compute = COMPUTE.model_copy(update={"activation_checkpointing": recompute})
    task = rap_task(architecture, compute=compute, **changes)
    return task, rap_step(architecture, rap_settings(**changes), SIDE, recompute)


CASES = {
    "tokenizer": lambda: stage_1(ARCHITECTURE, texture_dropout=0.5),
    "tokenizer, VGG": lambda: stage_1(ARCHITECTURE, image=VGG),
    "tokenizer, no structure": lambda: stage_1(VANILLA),
    "predictor": lambda: stage_2(ARCHITECTURE),
    "rap": lambda: stage_3(ARCHITECTURE),
    "rap, decoder": lambda: stage_3(ARCHITECTURE, train_decoder=True),
    "rap, decoder, no GAN": lambda: stage_3(ARCHITECTURE, train_decoder=True, image=PLAIN),
    "rap, teacher": lambda: stage_3(
        ARCHITECTURE,
        train_decoder=True,
        teacher={"pixels": 0.5, "perceptual": 0.5, "adversarial": True},
        image=MATCHING,
    ),
    "tokenizer, recomputed": lambda: stage_1(ARCHITECTURE, recompute=True),
    "rap, recomputed": lambda: stage_3(ARCHITECTURE, recompute=True),
    "rap, soft": lambda: stage_3(ARCHITECTURE, assignment="soft"),
    "rap, plain": lambda: stage_3(
        VANILLA, image=PLAIN, loss_weights={"structure": 0.0, "code": 0.0}
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_step_that_is_run_costs_what_was_counted(case: str) -> None:
    task, cost = CASES[case]()
    given = batch(0, task.learner.average.module.architecture)
    with sdpa_kernel(SDPBackend.MATH):  # the CPU's own kernel is not counted
        operations, kept = measure(lambda: task.update(given, 2))
    assert sum(cost.operations.values()) == operations
    assert cost.kept == pytest.approx(kept, rel=0.02)
    assert_numbers(task, cost)


def assert_numbers(task: TrainingTask, cost: StepCost) -> None:
    """Trained, averaged and frozen are those of the task's networks."""
    optimisers, frozen = [task.learner.optimiser], 0
    if not isinstance(task, PredictorTask):
        if task.adversary is not None:
            optimisers.append(task.adversary.optimiser)
        if task.image_loss.perceptual is not None:
            frozen += numbers(task.image_loss.perceptual)
    if not isinstance(task, TokenizerTask):
        frozen += sum(p.numel() for p in task.network.parameters() if not p.requires_grad)
    trained = sum(
        parameter.numel()
        for optimiser in optimisers
        for group in optimiser.param_groups
        for parameter in group["params"]
    )
    assert (cost.trained, cost.frozen) == (trained, frozen)
    assert cost.averaged == numbers(task.learner.average.module)
    assert cost.state == 4 * (4 * trained + cost.averaged + frozen)


def numbers(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_a_step_grows_with_batch_and_area() -> None:
    settings = predictor_settings()
    two = predictor_step(ARCHITECTURE, settings, batch_size=2, side=SIDE)
    four_times_as_large = predictor_step(ARCHITECTURE, settings, batch_size=1, side=2 * SIDE)
    assert four_times_as_large.operations["network"] == 2 * two.operations["network"]
    assert math.isclose(four_times_as_large.kept, 2 * two.kept, rel_tol=0.1)
    assert four_times_as_large.state == two.state
