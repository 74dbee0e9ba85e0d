"""Operations and memory of a training step, counted without computing it.

The networks run on PyTorch's meta device, where tensors have shapes without content, through the
same forward and backward passes as in the tasks. Each multiply-add of convolutions, matrix products
and attention counts as two operations. Normalisation, activation functions, sums and the optimiser
are bound by memory and do not count.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tvqrap.architecture import SCALE, Architecture
from tvqrap.config.training import (
    HR_ONLY,
    ImageLosses,
    Perceptual,
    RapTraining,
    TeacherShares,
    TokenizerTraining,
)
from tvqrap.losses.gan import hinge_discriminator_loss, hinge_generator_loss
from tvqrap.losses.perceptual import Blur, PerceptualDistance, alex_stages, vgg_stages
from tvqrap.networks.codebook import Codebook
from tvqrap.networks.discriminator import Discriminator
from tvqrap.networks.tokenizer import Tokenizer, join
from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.objectives.image_loss import ImageLoss
from tvqrap.training.recompute import recompute_blocks

Part = Literal["network", "perceptual", "discriminator"]

META = torch.device("meta")
_FLOAT = 4


@dataclass(frozen=True)
class StepCost:
    """Cost of one step on one batch."""

    operations: dict[Part, int]
    """Operations of forward and backward passes, by part: the trained and the frozen networks, the
    perceptual network, and the GAN term with its discriminator."""
    kept: int
    """Bytes of tensors that the forward passes keep for the backward passes, in float32: a lower
    bound of the memory of activations."""
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
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        texture = tokenizer.encode(hr).texture
    return counter.get_total_flops() + _search_operations(tokenizer.codebook, texture)


def tokenizer_step(
    architecture: Architecture, settings: TokenizerTraining, side: int, recompute: bool = False
) -> StepCost:
    """Counts a step of stage 1 with quantization, on HR crops of `side` x `side` pixels.

    `recompute`: blocks are computed again by the backward pass (`activation_checkpointing`).
    """
    meter = _Meter()
    with META:
        tokenizer = Tokenizer(architecture)
        if recompute:
            recompute_blocks(tokenizer)
        hr = torch.empty(settings.batch_size, 3, side, side)
    with meter.part("network"):
        encoded = tokenizer.encode(hr)
        image = tokenizer.decoder(join(encoded.decoded_structure, encoded.texture))
        ends = [image]
        if tokenizer.small_autoencoder is not None:
            ends.append(tokenizer.small_autoencoder(hr).image)
    # The decoder runs on texture instead of entries, so the search alone is missing.
    meter.add("network", _search_operations(tokenizer.codebook, encoded.texture))
    judged = len(hr)
    if encoded.decoded_structure is not None:
        judged -= round(settings.texture_dropout * len(hr))
    losses = _ImageLosses(settings.image)
    losses.judge(meter, image, hr, judged)
    if losses.discriminator is not None:
        last = tokenizer.decoder[-1].get_parameter("weight")
        with meter.part("discriminator"):
            for _ in range(2):
                torch.autograd.grad(image, last, torch.empty_like(image), retain_graph=True)
    with meter.part("network"):
        torch.autograd.backward(ends, [torch.empty_like(end) for end in ends])
    return meter.cost(
        trained=_numbers(tokenizer) + losses.trained,
        averaged=_numbers(tokenizer),
        frozen=losses.frozen,
    )


def predictor_step(
    architecture: Architecture, batch: int, side: int, recompute: bool = False
) -> StepCost:
    """Counts a step of stage 2, on LR images of HR crops of `side` x `side` pixels."""
    meter = _Meter()
    with META:
        network = UpscalerNetwork(architecture)
        if recompute:
            recompute_blocks(network)
        lr = torch.empty(batch, 3, side // SCALE, side // SCALE)
    network.freeze()
    with meter.part("network"):
        prediction = network.predict(lr)
        ends = [end for end in (prediction.logits, prediction.structure) if end is not None]
        torch.autograd.backward(ends, [torch.empty_like(end) for end in ends])
    trained = _numbers(network.predictor)
    return meter.cost(trained=trained, averaged=trained, frozen=_numbers(network) - trained)


def rap_step(
    architecture: Architecture, settings: RapTraining, side: int, recompute: bool = False
) -> StepCost:
    """Counts a step of stage 3, on pairs with HR crops of `side` x `side` pixels."""
    meter = _Meter()
    with META:
        network = UpscalerNetwork(architecture, settings.assignment)
        if recompute:
            recompute_blocks(network)
        hr = torch.empty(settings.batch_size, 3, side, side)
        lr = torch.empty(settings.batch_size, 3, side // SCALE, side // SCALE)
    network.freeze()
    network.decoder.requires_grad_(settings.train_decoder)
    with meter.part("network"):
        prediction = network.predict(lr)
        texture = network.straight_through_texture(prediction.logits)
        decoder_input = join(prediction.decoded_structure, texture)
        image = network.decoder(decoder_input)
    losses = _ImageLosses(settings.image, settings.teacher)
    losses.judge(meter, image, hr, len(hr))
    gradient = torch.empty_like(image)
    if losses.discriminator is not None and settings.train_decoder:
        last: Tensor = network.decoder[-1].get_parameter("weight")
        with meter.part("discriminator"):
            for _ in range(2):
                torch.autograd.grad(image, last, gradient, retain_graph=True)
    elif losses.discriminator is not None:
        last = network.predictor.code_head.score.weight
        with meter.part("discriminator"):
            (at_input,) = torch.autograd.grad(image, decoder_input, gradient, retain_graph=True)
            for _ in range(2):
                torch.autograd.grad(decoder_input, last, at_input, retain_graph=True)
    with meter.part("network"):
        # The token losses share the backward pass of the image losses and add no operation.
        image.backward(gradient)
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    return meter.cost(
        trained=trained + losses.trained,
        averaged=_numbers(network),
        frozen=_numbers(network) - trained + losses.frozen,
    )


class _Meter:
    """Operations of parts, and the storages that their backward passes keep alive."""

    def __init__(self) -> None:
        self._operations: dict[Part, int] = {}
        self._kept: dict[Part, dict[int, int]] = {}

    @contextmanager
    def part(self, name: Part) -> Iterator[None]:
        kept = self._kept.setdefault(name, {})

        def keep(tensor: Tensor) -> Tensor:
            if not isinstance(tensor, nn.Parameter):
                storage = tensor.untyped_storage()
                kept[storage._cdata] = storage.nbytes()
            return tensor

        with (
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            FlopCounterMode(display=False) as counter,
        ):
            yield
        self.add(name, counter.get_total_flops())

    def add(self, name: Part, operations: int) -> None:
        self._operations[name] = self._operations.get(name, 0) + operations

    def cost(self, *, trained: int, averaged: int, frozen: int) -> StepCost:
        held = {name: sum(storages.values()) for name, storages in self._kept.items()}
        # The losses' graphs live one after the other, while that of the network stays.
        kept = held.pop("network") + max(held.values(), default=0)
        return StepCost(self._operations, kept, trained, averaged, frozen)


class _ImageLosses:
    """The perceptual network and the discriminator of the image losses, on the meta device."""

    def __init__(self, settings: ImageLosses, teacher: TeacherShares = HR_ONLY) -> None:
        self.settings = settings
        self.teacher = teacher
        self.perceptual = _perceptual(settings.perceptual)
        self.discriminator = None
        if settings.adversarial.weight:
            with META:
                self.discriminator = Discriminator(settings.adversarial.width)

    @property
    def trained(self) -> int:
        return _numbers(self.discriminator)

    @property
    def frozen(self) -> int:
        return _numbers(self.perceptual)

    def judge(self, meter: _Meter, image: Tensor, hr: Tensor, judged: int) -> None:
        """Counts the passes from the losses back to the image, and the discriminator's update.

        Augmented images count with their original size; the average is a sixth lower.
        """
        with meter.part("perceptual"):
            loss = ImageLoss(self.settings, self.perceptual, self.teacher)
            loss.gradients(image, hr, None, judged, teacher=hr)
        if self.discriminator is None:
            return
        with meter.part("discriminator"):
            leaf = image.detach().requires_grad_()
            torch.autograd.grad(hinge_generator_loss(self.discriminator(leaf[:judged])), leaf)
            real, fake = (self.discriminator(images[:judged].detach()) for images in (hr, image))
            hinge_discriminator_loss(real, fake).backward()


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


def _search_operations(codebook: Codebook, texture: Tensor) -> int:
    """Operations that compare each vector of a texture map (N, C, h, w) with each entry."""
    return 2 * prod(texture.shape) * len(codebook.embedding.weight)


def _numbers(module: nn.Module | None) -> int:
    return 0 if module is None else sum(p.numel() for p in module.parameters())
