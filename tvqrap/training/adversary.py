"""The discriminator's side of the GAN term: its update and its state."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tvqrap.discriminator import Discriminator
from tvqrap.losses import hinge_discriminator_loss
from tvqrap.training.precision import on_device
from tvqrap.training.settings import Adversarial, Optimiser


class Adversary:
    """A discriminator that learns beside the network it judges."""

    def __init__(
        self, settings: Adversarial, optimiser: Optimiser, width: float, device: torch.device
    ) -> None:
        self.settings = settings
        self.discriminator = on_device(Discriminator(width), device)
        self.optimiser = torch.optim.Adam(
            self.discriminator.parameters(), settings.learning_rate, optimiser.betas, fused=True
        )

    def active(self, step: int) -> bool:
        """Whether the GAN term is used at this step."""
        return step >= self.settings.start

    def update(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """One step on HR and made images, both (N, 3, H, W) in [-1, 1]."""
        real_output = self.discriminator(real)
        fake_output = self.discriminator(fake.detach())
        loss = hinge_discriminator_loss(real_output, fake_output)
        # In place of grads left by the generator's pass there are none: it takes them at the image.
        (self.settings.weight * loss).backward()
        self.optimiser.step()
        self.optimiser.zero_grad()
        return {
            "discriminator": loss.detach(),
            "judged_real": real_output.detach().mean(),
            "judged_fake": fake_output.detach().mean(),
        }

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


def adversary_for(
    settings: Adversarial, optimiser: Optimiser, width: float, device: torch.device
) -> Adversary | None:
    """An adversary where the GAN term has a weight, else none."""
    return Adversary(settings, optimiser, width, device) if settings.weight else None
