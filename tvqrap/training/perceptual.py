"""The perceptual network that the settings ask for."""

from torch import nn

from tvqrap.perceptual import perceptual_distance
from tvqrap.training.settings import Perceptual


def perceptual_for(settings: Perceptual) -> nn.Module | None:
    """The loss network, none where its weight is 0.

    Raises `UserError` where its weights are missing.
    """
    return perceptual_distance(settings.network) if settings.weight else None
