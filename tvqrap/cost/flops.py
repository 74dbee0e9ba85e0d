"""Operations and memory of a training step, counted without computing it.

The tasks of the three stages take one step on PyTorch's meta device, where tensors have shapes
without content. Each multiply-add of convolutions, matrix products and attention counts as two
operations. Normalisation, activation functions, sums and the optimiser are bound by memory and do
not count.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tvqrap.architecture import SCALE, Architecture
from tvqrap.config.training import (
    HR_ONLY,
    Compute,
    ImageLosses,
    Perceptual,
    PredictorTraining,
    RapTraining,
    TeacherShares,
    TokenizerTraining,
)
from tvqrap.losses.perceptual import Blur, PerceptualDistance, alex_stages, vgg_stages
from tvqrap.networks.tokenizer import Tokenizer
from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.objectives.image_losses.image_loss import ImageLoss
from tvqrap.objectives.predictor import PredictorTask
from tvqrap.objectives.rap import RapTask
from tvqrap.objectives.tokenizer import TokenizerTask
from tvqrap.runtime.device import META
from tvqrap.training.batch import Batch

Part = Literal["network", "perceptual", "discriminator"]
Task = TokenizerTask | PredictorTask | RapTask
Stage = TypeVar("Stage", TokenizerTraining, RapTraining)

_FLOAT = 4


@dataclass(frozen=True)
class StepCost:
    """Cost of one step on one batch."""

    operations: dict[Part, int]
    """Operations of forward and backward passes, by part: the trained and the frozen networks, the
    perceptual network, and the GAN term with its discriminator."""
    kept: int
    """Bytes of tensors that forward passes keep for backward passes, at their peak, in float32: a
    lower bound of the memory of activations."""
    trained: int
    """Number of trained parameters, the discriminator's included."""
    averaged: int
    """Number of parameters with a running average."""
    frozen: int
    """Number of other parameters, the perceptual network's included."""

    @property
    def state(self) -> int:
        """Bytes of weights, gradients, moments of Adam and the running average, in float32."""
        return _FLOAT * (4 * self.trained + self.averaged + self.frozen)

    @property
    def checkpoint(self) -> int:
        """Bytes of a checkpoint: weights, moments of Adam and the running average."""
        return _FLOAT * (3 * self.trained + self.averaged)


def tokenizing_operations(architecture: Architecture, side: int) -> int:
    """Counts the operations that tokenize one HR image of `side` x `side` pixels."""
    with META:
        tokenizer, hr = Tokenizer(architecture), torch.empty(1, 3, side, side)
    return measure(lambda: tokenizer.tokenize(hr))[0]


def tokenizer_step(
    architecture: Architecture, settings: TokenizerTraining, side: int, recompute: bool = False
) -> StepCost:
    """Counts a step of stage 1 with quantization, on HR crops of `side` x `side` pixels.

    `recompute`: blocks are computed again by the backward pass (`activation_checkpointing`).
    """
    with META:
        tokenizer = Tokenizer(architecture)
    life = settings.codebook_life.model_copy(update={"revive_every": 0})
    task = TokenizerTask(
        tokenizer,
        _without_perceptual(settings.model_copy(update={"codebook_life": life})),
        _compute(recompute),
        seed=0,
        vq_warmup_steps=0,
        validation=[],
    )
    batch = _batch(architecture, settings.batch_size, side)
    return _cost_with_image_losses(
        task, tokenizer, settings.image, HR_ONLY, batch, settings.textured
    )


def predictor_step(
    architecture: Architecture,
    settings: PredictorTraining,
    batch_size: int,
    side: int,
    recompute: bool = False,
) -> StepCost:
    """Counts a step of stage 2, on LR images of HR crops of `side` x `side` pixels."""
    with META:
        network = UpscalerNetwork(architecture)
    compute = _compute(recompute)
    task = PredictorTask(network, settings, compute, validation=[], others=[], code_entropy=0.0)
    batch = _batch(architecture, batch_size, side)
    operations, kept = _measured(task, batch, 0)
    return _cost(task, network, None, {"network": operations}, kept)


def rap_step(
    architecture: Architecture, settings: RapTraining, side: int, recompute: bool = False
) -> StepCost:
    """Counts a step of stage 3, on pairs with HR crops of `side` x `side` pixels."""
    with META:
        network = UpscalerNetwork(architecture)
    task = RapTask(network, _without_perceptual(settings), _compute(recompute), validation=[])
    batch = _batch(architecture, settings.batch_size, side)
    return _cost_with_image_losses(
        task, network, settings.image, settings.teacher, batch, settings.batch_size
    )


def measure(work: Callable[[], object]) -> tuple[int, int]:
    """Counts operations of forward and backward passes, and the peak of the bytes kept for these.

    Tensors are on the meta device; where `work` asks for their values, it raises.
    """
    saved = _SavedTensors()
    with (
        FlopCounterMode(display=False) as counter,
        torch.autograd.graph.saved_tensors_hooks(saved.pack, saved.unpack),
    ):
        work()
    return counter.get_total_flops(), saved.peak


def _cost_with_image_losses(
    task: TokenizerTask | RapTask,
    network: nn.Module,
    image: ImageLosses,
    teacher: TeacherShares,
    batch: Batch,
    judged: int,
) -> StepCost:
    """Takes the step, takes it without the GAN term, and takes the perceptual loss alone.

    Augmented images count with their original size; the average is a sixth lower. The losses see
    the first `judged` images of the batch.
    """
    step = image.adversarial.start
    perceptual = _perceptual(image.perceptual)
    plain = image.perceptual.model_copy(update={"augment": False})
    loss = ImageLoss(image.model_copy(update={"perceptual": plain}), perceptual, teacher)
    task.image_loss = loss
    hr = task.learner.image(batch.hr)
    alone = measure(lambda: loss.gradients(hr, hr, None, judged, teacher=hr))[0]
    together, kept = _measured(task, batch, step)
    adversary, task.adversary = task.adversary, None
    without = together if adversary is None else _measured(task, batch, step)[0]
    task.adversary = adversary
    operations: dict[Part, int] = {
        "network": without - alone,
        "perceptual": alone,
        "discriminator": together - without,
    }
    return _cost(task, network, perceptual, operations, kept)


def _measured(task: Task, batch: Batch, step: int) -> tuple[int, int]:
    # What follows the backward passes does not count, and takes a third of the time on the meta
    # device, where the fused Adam does not run.
    task.learner.finish = lambda terms, of_batch=None: terms  # type: ignore[method-assign]
    if not isinstance(task, PredictorTask) and task.adversary is not None:
        task.adversary.apply_gradients = lambda: None  # type: ignore[method-assign]
    return measure(lambda: task.update(batch, step))


def _cost(
    task: Task,
    network: nn.Module,
    perceptual: nn.Module | None,
    operations: dict[Part, int],
    kept: int,
) -> StepCost:
    trained = [
        parameter
        for optimiser in _optimisers(task)
        for group in optimiser.param_groups
        for parameter in group["params"]
    ]
    fixed = [parameter for parameter in network.parameters() if not parameter.requires_grad]
    return StepCost(
        operations,
        kept,
        trained=_numbers(trained),
        averaged=_numbers(task.learner.average.module.parameters()),
        frozen=_numbers(fixed) + _numbers(() if perceptual is None else perceptual.parameters()),
    )


def _optimisers(task: Task) -> list[torch.optim.Optimizer]:
    adversary = None if isinstance(task, PredictorTask) else task.adversary
    return [task.learner.optimiser, *([] if adversary is None else [adversary.optimiser])]


def _without_perceptual(settings: Stage) -> Stage:
    """The settings without the perceptual loss, whose task reads no file of weights for it."""
    perceptual = settings.image.perceptual.model_copy(update={"weight": 0.0})
    image = settings.image.model_copy(update={"perceptual": perceptual})
    return settings.model_copy(update={"image": image})


def _compute(recompute: bool) -> Compute:
    return Compute(
        device="cpu",  # of the tensors that do not follow the network to the meta device: none
        precision="float32",
        threads=torch.get_num_threads(),
        workers=1,
        grad_accum_steps=1,
        compile=False,
        activation_checkpointing=recompute,
        tf32=False,
        cudnn_benchmark=False,
    )


def _batch(architecture: Architecture, count: int, side: int) -> Batch:
    """A batch of HR crops of `side` x `side` pixels with all members, on the meta device."""
    codes = side // architecture.texture
    with META:
        structure = None
        if architecture.structure is not None:
            small = side // architecture.structure
            structure = torch.empty(count, architecture.structure_channels, small, small)
        hr, lr, teacher = (
            torch.empty(count, size, size, 3, dtype=torch.uint8)
            for size in (side, side // SCALE, side)
        )
        chosen = torch.empty(count, codes, codes, dtype=torch.int64)
    return Batch(("",) * count, hr, lr, structure, chosen, teacher)


def _perceptual(settings: Perceptual) -> PerceptualDistance | None:
    """Builds the network of the perceptual loss without weights, so that no file is needed."""
    if not settings.weight:
        return None
    with META:
        if settings.network == "stlpips_alex":
            stages = alex_stages()
        elif settings.network == "stlpips_vgg":
            stages = vgg_stages([nn.MaxPool2d(2, 1), Blur()])
        else:
            stages = vgg_stages([nn.MaxPool2d(2)])
        widths = [[m.out_channels for m in s if isinstance(m, nn.Conv2d)][-1] for s in stages]
        distance = PerceptualDistance(stages, [torch.empty(width) for width in widths])
        return distance.to(META)


class _SavedTensors:
    """The tensors that backward passes will read, without parameters."""

    def __init__(self) -> None:
        self.holders: Counter[int] = Counter()
        """Number of saved tensors by storage."""
        self.bytes = 0
        """Bytes of these storages."""
        self.peak = 0
        """Most bytes at a time."""

    def pack(self, tensor: Tensor) -> "Tensor | _Saved":
        """Called with each tensor that a forward pass saves."""
        return tensor if isinstance(tensor, nn.Parameter) else _Saved(tensor, self)

    def unpack(self, saved: "Tensor | _Saved") -> Tensor:
        """Called where a backward pass reads it."""
        return saved.tensor if isinstance(saved, _Saved) else saved


class _Saved:
    """A saved tensor, which counts as long as its graph lives."""

    def __init__(self, tensor: Tensor, all_saved: _SavedTensors) -> None:
        self.tensor = tensor
        self.all_saved = all_saved
        storage = tensor.untyped_storage()
        self.key, self.size = storage._cdata, storage.nbytes()
        all_saved.holders[self.key] += 1
        if all_saved.holders[self.key] == 1:
            all_saved.bytes += self.size
            all_saved.peak = max(all_saved.peak, all_saved.bytes)

    def __del__(self) -> None:
        self.all_saved.holders[self.key] -= 1
        if not self.all_saved.holders[self.key]:
            self.all_saved.bytes -= self.size


def _numbers(parameters: Any) -> int:
    return sum(parameter.numel() for parameter in parameters)
