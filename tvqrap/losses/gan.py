"""The hinge GAN losses and the adaptive weight of the generator term."""

from torch import Tensor
from torch.nn import functional as F

ADAPTIVE_LIMIT = 1e4

ADAPTIVE_EPSILON = 1e-4


def hinge_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Mean of the hinge terms of the discriminator's outputs on real and on made images."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def hinge_generator_loss(fake: Tensor) -> Tensor:
    """What the maker of images minimises: minus the discriminator's mean output."""
    return -fake.mean()


def adaptive_weight(reconstruction_gradient: Tensor, adversarial_gradient: Tensor) -> Tensor:
    """Weight that gives the GAN term the size of the reconstruction terms at one layer.

    Ratio of the gradients' norms, with 1e-4 under the ratio, clamped to [0, 1e4].
    """
    ratio = reconstruction_gradient.norm() / (adversarial_gradient.norm() + ADAPTIVE_EPSILON)
    return ratio.clamp(0, ADAPTIVE_LIMIT).detach()
