"""The GAN term of the image losses: the discriminator's update, and the weight of the term."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tvqrap.config.training import Adversarial
from tvqrap.losses.discriminator import PatchDiscriminator, UNetDiscriminator
from tvqrap.losses.gan import adaptive_weight, hinge_discriminator_loss
from tvqrap.objectives.image_losses.image_loss import ImageGradient
from tvqrap.objectives.image_losses.sync_batch_norm import SharedBatchNorm
from tvqrap.runtime.device import on_device, to_float32
from tvqrap.training.batch import Microbatch
from tvqrap.training.distributed import Workers
from tvqrap.training.learner import Learner
from tvqrap.training.optimizer import apply_gradients, sum_gradients


class Adversary:
    """A discriminator that is trained beside the generator."""

    def __init__(self, settings: Adversarial, learner: Learner[Any]) -> None:
        """Takes device, precision, betas of Adam, schedule and workers from the learner."""
        self.settings = settings
        self.learner = learner
        self.betas = learner.settings.betas
        self.workers = learner.workers
        self.grad_accum_steps = learner.compute.grad_accum_steps
        self.discriminator = on_device(
            _discriminator(settings, self.workers, learner.device),
            learner.device,
            learner.dtype,
        )
        self.optimiser = torch.optim.Adam(
            self.discriminator.parameters(),
            settings.learning_rate,
            self.betas,
            fused=True,
        )
        self.weight = settings.weight
        """Weight of the GAN term at the present step."""

    def begin(self, step: int) -> None:
        """Sets the discriminator's learning rate and the weight of the GAN term at a step."""
        rate = self.learner.learning_rate(self.settings.learning_rate, step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        warm = (step - self.settings.start + 1) / max(1, self.settings.warmup_steps)
        self.weight = self.settings.weight * min(1.0, warm)

    def features(self, image: Tensor) -> list[Tensor]:
        """The discriminator's features of images, and last its scores, in the training's format."""
        with self.learner.autocast():
            found: list[Tensor] = self.discriminator(image)
        return [to_float32(each) for each in found]

    def weighted_gradient(
        self,
        at: Tensor,
        last: Tensor,
        gradient: ImageGradient,
        microbatch: Microbatch,
        terms: dict[str, Tensor],
    ) -> Tensor:
        """Returns the gradient at `at` of the reconstruction terms and the weighted GAN term.

        `gradient` holds both gradients at `at`. Their norms at the weights `last`, on which `at`
        depends, give the adaptive weight, which is added to `terms`. The graph of `at` is kept.
        """
        assert gradient.adversarial is not None, "the GAN term is not in use"
        reconstruction_grad, adversarial_grad = (
            torch.autograd.grad(at, last, each, retain_graph=True)[0]
            for each in (gradient.reconstruction, gradient.adversarial)
        )
        # The gradients are contributions to those of the whole batch, one for each worker. A
        # microbatch stands for the batch that is divided into gradient-accumulation steps.
        self.workers.all_reduce([reconstruction_grad, adversarial_grad])
        weight = adaptive_weight(
            reconstruction_grad * self.grad_accum_steps, adversarial_grad * self.grad_accum_steps
        )
        terms["adaptive_weight"] = weight / microbatch.of
        return gradient.reconstruction + gradient.adversarial * (self.weight * weight)

    def accumulate(self, real: Tensor, fake: Tensor, weight: float) -> dict[str, Tensor]:
        """Adds the discriminator's gradients on real and generated images, (N, 3, H, W).

        `weight` is the weight of these images in the mean over the step's batch. Returns the terms.
        """
        real_output = self.features(real)[-1]
        fake_output = self.features(fake.detach())[-1]
        loss = hinge_discriminator_loss(real_output, fake_output) * weight
        # The generator's pass left no gradient here: it is taken with respect to the image alone.
        (self.settings.weight * loss).backward()
        return {
            "discriminator": loss.detach(),
            "judged_real": real_output.detach().mean() * weight,
            "judged_fake": fake_output.detach().mean() * weight,
        }

    def sum_gradients(self) -> dict[str, Tensor]:
        """Sums the workers' gradients; returns the term `discriminator_gradient_norm`."""
        return {"discriminator_gradient_norm": sum_gradients(self.optimiser, self.workers)}

    def apply_gradients(self) -> None:
        """Applies the gradients where the learner has applied those of the network."""
        apply_gradients(self.optimiser, self.learner.applied)

    def state(self) -> dict[str, Any]:
        """Returns weights and optimiser."""
        return {
            "discriminator": self.discriminator.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores a state."""
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimiser.load_state_dict(state["optimiser"])
        for group in self.optimiser.param_groups:  # the settings may have changed since
            group["betas"] = self.betas


def _discriminator(settings: Adversarial, workers: Workers, device: torch.device) -> nn.Module:
    """A discriminator; batch statistics, if it has them, are those of all workers."""
    width = settings.width
    if settings.discriminator == "unet":
        return UNetDiscriminator(width)
    if workers.count == 1:
        return PatchDiscriminator(width)
    if device.type != "cuda":
        return PatchDiscriminator(width, SharedBatchNorm)
    shared: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(PatchDiscriminator(width))
    return shared


def adversary_for(settings: Adversarial, learner: Learner[Any]) -> Adversary | None:
    """Returns an adversary, None if the weight of the GAN term is 0."""
    return Adversary(settings, learner) if settings.weight else None


def begin(adversary: Adversary | None, step: int) -> Adversary | None:
    """Returns the adversary, ready for this step; None where the GAN term is not used yet."""
    if adversary is None or step < adversary.settings.start:
        return None
    adversary.begin(step)
    return adversary
