"""The perceptual network that the settings ask for."""

from torch import nn

from tvqrap.perceptual import lpips_vgg, stlpips
from tvqrap.training.settings import Perceptual


def perceptual_for(settings: Perceptual) -> nn.Module | None:
    """The loss network, none where its weight is 0.

    Raises `UserError` where its weights are missing.
    """
    if not settings.weight:
        return None
    match settings.network:
        case "stlpips_alex":
            return stlpips("alex")
        case "stlpips_vgg":
            return stlpips("vgg")
        case "lpips_vgg":
            return lpips_vgg()
