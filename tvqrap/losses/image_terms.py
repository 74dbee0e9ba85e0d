"""Pixel losses between two images: gradients and colours."""

from torch import Tensor


def gradient_loss(image: Tensor, target: Tensor) -> Tensor:
    """L1 distance between the pixel differences of two images (N, C, H, W), in both directions."""
    difference = image - target
    return difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()


def chroma_loss(image: Tensor, target: Tensor) -> Tensor:
    """L1 distance between the colours of two RGB images (N, 3, H, W), without brightness.

    Colours are R - G and (R + G) / 2 - B. They hold a small share of a photograph's energy, so a
    network learns them long after the brightness from a loss over RGB alone.
    """
    red, green, blue = (image - target).unbind(1)
    return (red - green).abs().mean() + ((red + green) / 2 - blue).abs().mean()
