"""The discriminator's side of the GAN term: its update and its state."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tvqrap.config.training import Adversarial, Compute, Optimiser
from tvqrap.losses.gan import adaptive_weight, hinge_discriminator_loss
from tvqrap.networks.discriminator import Discriminator
from tvqrap.objectives.sync_batch_norm import SharedBatchNorm
from tvqrap.runtime.device import on_device, weights_dtype
from tvqrap.training.distributed import Workers
from tvqrap.training.optimizer import apply_gradients


class Adversary:
    """A discriminator that learns beside the network it judges."""

    def __init__(
        self,
        settings: Adversarial,
        optimiser: Optimiser,
        device: torch.device,
        dtype: torch.dtype,
        workers: Workers,
    ) -> None:
        self.settings = settings
        self.workers = workers
        norm = nn.BatchNorm2d if workers.count == 1 else SharedBatchNorm
        self.discriminator = on_device(Discriminator(settings.width, norm), device, dtype)
        self.optimiser = torch.optim.Adam(
            self.discriminator.parameters(), settings.learning_rate, optimiser.betas, fused=True
        )

    def active(self, step: int) -> bool:
        """Whether the GAN term is used at this step."""
        return step >= self.settings.start

    def learn(self, real: Tensor, fake: Tensor, weight: float) -> dict[str, Tensor]:
        """Takes gradients on HR and made images, both (N, 3, H, W) in [-1, 1].

        `weight`: what these images count for among all of the step's.
        """
        real_output = self.discriminator(real)
        fake_output = self.discriminator(fake.detach())
        loss = hinge_discriminator_loss(real_output, fake_output) * weight
        # In place of grads left by the generator's pass there are none: it takes them at the image.
        (self.settings.weight * loss).backward()
        return {
            "discriminator": loss.detach(),
            "judged_real": real_output.detach().mean() * weight,
            "judged_fake": fake_output.detach().mean() * weight,
        }

    def step(self) -> None:
        """Applies the gradients of all that was learnt on."""
        apply_gradients(self.optimiser, None, self.workers)

    def state(self) -> dict[str, Any]:
        """Weights and optimiser."""
        return {
            "discriminator": self.discriminator.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Puts a state back."""
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimiser.load_state_dict(state["optimiser"])


def shared_adaptive_weight(
    reconstruction: Tensor, adversarial: Tensor, workers: Workers, parts: int
) -> Tensor:
    """The adaptive weight of a batch of which workers hold parts.

    The gradients are this worker's contributions; they are added up in place. Where workers take
    their part of a step's batch in several `parts`, each has the weight of what is taken at once.
    """
    workers.all_reduce([reconstruction, adversarial])
    return adaptive_weight(reconstruction * parts, adversarial * parts)


def adversary_for(
    settings: Adversarial,
    optimiser: Optimiser,
    compute: Compute,
    device: torch.device,
    workers: Workers,
) -> Adversary | None:
    """An adversary where the GAN term has a weight, else none."""
    if not settings.weight:
        return None
    return Adversary(settings, optimiser, device, weights_dtype(compute.precision), workers)
