"""The hinge GAN losses and the adaptive weight of the generator term."""

from torch import Tensor
from torch.nn import functional as F

ADAPTIVE_LIMIT = 1e4

ADAPTIVE_EPSILON = 1e-4


def hinge_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Hinge loss of the discriminator's outputs on real and on generated images."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def hinge_generator_loss(fake: Tensor) -> Tensor:
    """Loss of the generator: minus the discriminator's mean output."""
    return -fake.mean()


def adaptive_weight(reconstruction_gradient: Tensor, adversarial_gradient: Tensor) -> Tensor:
    """Weight that makes the GAN term's gradient as large as that of the reconstruction terms.

    It is the ratio of the gradients' norms at one layer, with 1e-4 added to the denominator,
    clamped to [0, 1e4].
    """
    ratio = reconstruction_gradient.norm() / (adversarial_gradient.norm() + ADAPTIVE_EPSILON)
    return ratio.clamp(0, ADAPTIVE_LIMIT).detach()
