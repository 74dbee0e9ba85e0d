"""The hinge GAN losses, feature matching, and the adaptive weight of the generator term."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

ADAPTIVE_LIMIT = 1e4

ADAPTIVE_EPSILON = 1e-4

MATCHING_FLOOR = 1e-6


def hinge_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Hinge loss of the discriminator's outputs on real and on generated images."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def hinge_generator_loss(fake: Tensor) -> Tensor:
    """Loss of the generator: minus the discriminator's mean output."""
    return -fake.mean()


def matching_loss(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Mean over layers and images of the L1 distance between a discriminator's features.

    Maps are (N, C, H, W), those of an image and of its target. Each distance is relative to the
    mean absolute value of the target's map, so that layers count alike. pix2pixHD (Wang et al.,
    2018) has the plain distance.
    """
    distances = [
        (a - b).abs().mean((1, 2, 3)) / b.abs().mean((1, 2, 3)).clamp_min(MATCHING_FLOOR)
        for a, b in zip(found, wanted, strict=True)
    ]
    return torch.stack(distances).mean()


def adaptive_weight(reconstruction_gradient: Tensor, adversarial_gradient: Tensor) -> Tensor:
    """Weight that makes the GAN term's gradient as large as that of the reconstruction terms.

    It is the ratio of the gradients' norms at one layer, with 1e-4 added to the denominator,
    clamped to [0, 1e4].
    """
    ratio = reconstruction_gradient.norm() / (adversarial_gradient.norm() + ADAPTIVE_EPSILON)
    return ratio.clamp(0, ADAPTIVE_LIMIT).detach()
