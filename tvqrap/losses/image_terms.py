"""Pixel losses between two images: gradients and colours."""

from torch import Tensor


def gradient_loss(image: Tensor, target: Tensor) -> Tensor:
    """L1 between the horizontal and vertical differences of two images (N, C, H, W)."""
    difference = image - target
    return difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()


def chroma_loss(image: Tensor, target: Tensor) -> Tensor:
    """L1 between the colours of two RGB images (N, 3, H, W), whatever their brightness.

    Colours are R - G and (R + G) / 2 - B. They hold a small part of a photograph's energy: a loss
    over RGB alone learns them long after the brightness.
    """
    red, green, blue = (image - target).unbind(1)
    return (red - green).abs().mean() + ((red + green) / 2 - blue).abs().mean()
