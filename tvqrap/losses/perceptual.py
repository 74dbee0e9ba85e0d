"""Perceptual distances between images: ST-LPIPS, and LPIPS (VGG) for the paper's training.

Both compare features of a frozen convolutional network, normalised to unit length over the channels
at each position, channel by channel with learned weights (Zhang et al., "The Unreasonable
Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018, equation 1). ST-LPIPS (Ghildyal
and Liu, "Shift-tolerant Perceptual Similarity Metric", ECCV 2022) downsamples without aliasing:
strides become one, followed by a reflection-padded blur.

Nothing is downloaded: ST-LPIPS reads the weights that the package `stlpips_pytorch` carries, LPIPS
reads files that the user has fetched.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Mean and deviation of ImageNet, for images in [-1, 1].
SHIFT = (-0.030, -0.088, -0.188)

SCALE = (0.458, 0.448, 0.450)

_VGG_WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))

SMALLEST_SIDE = 21


class Blur(nn.Module):
    """Halves a map: reflection padding by 2, then [1, 2, 1] x [1, 2, 1] / 16 at stride 2."""

    def forward(self, x: Tensor) -> Tensor:
        # Two box filters of width 2 make [1, 2, 1] / 4. Pooling is much faster than a depthwise
        # convolution, most of all in the backward pass.
        padded = F.pad(x, (2, 2, 2, 2), mode="reflect")
        return F.avg_pool2d(F.avg_pool2d(padded, 2, stride=1), 2)


class PerceptualDistance(nn.Module):
    """Distance of images in the feature space of a frozen network, at five depths.

    Images are float32 (N, 3, H, W) in [-1, 1], with sides of at least 21.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, stages: Sequence[nn.Sequential], channel_weights: Sequence[Tensor]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.register_buffer("shift", torch.tensor(SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(SCALE).view(1, 3, 1, 1))
        for depth, weight in enumerate(channel_weights):
            self.register_buffer(f"weight{depth}", weight.reshape(1, -1, 1, 1))
        self.requires_grad_(False)
        self.eval()
        self.to(memory_format=torch.channels_last)

    def train(self, mode: bool = True) -> "PerceptualDistance":
        """Stays in evaluation mode, since a loss is not trained."""
        return super().train(False)

    def features(self, image: Tensor) -> list[Tensor]:
        """Returns unit-length features at each depth, (N, C_k, H_k, W_k), for `forward`.

        Raises:
            ValueError: An image is smaller than 21x21, which the deepest layers cannot take.
        """
        if min(image.shape[-2:]) < SMALLEST_SIDE:
            height, width = image.shape[-2:]
            raise ValueError(f"{width}x{height} image, at least {SMALLEST_SIDE} a side is needed")
        x = ((image - self.shift) / self.scale).contiguous(memory_format=torch.channels_last)
        features = []
        for stage in self.stages:
            x = stage(x)
            # Where all channels are 0, the gradient of vector_norm is 0, that of sqrt(sum) NaN.
            features.append(x / (torch.linalg.vector_norm(x, dim=1, keepdim=True) + 1e-10))
        return features

    def forward(self, image: Tensor, target: Tensor | Sequence[Tensor]) -> Tensor:
        """Returns the distance (N,) of each image to its target; 0 is equal, about 1 is far.

        `target` is an image or its `features`. `image` alone gets a gradient.
        """
        if isinstance(target, Tensor):
            with torch.no_grad():
                target = self.features(target)
        distance = image.new_zeros(len(image))
        for depth, (found, wanted) in enumerate(zip(self.features(image), target, strict=True)):
            weight = getattr(self, f"weight{depth}")
            distance = distance + F.conv2d((found - wanted).square(), weight).mean((1, 2, 3))
        return distance


def vgg_stages(pool: Sequence[nn.Module]) -> list[nn.Sequential]:
    """Returns the five stages of VGG16 with random weights; `pool` halves maps between them."""
    stages = []
    inputs = 3
    for depth, widths in enumerate(_VGG_WIDTHS):
        layers: list[nn.Module] = list(pool) if depth else []
        for width in widths:
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU(inplace=True)]
            inputs = width
        stages.append(nn.Sequential(*layers))
    return stages


def alex_stages() -> list[nn.Sequential]:
    """Returns the five stages of AlexNet, as ST-LPIPS changes it, with random weights."""

    def relu() -> nn.Module:
        return nn.ReLU(inplace=True)

    return [
        nn.Sequential(nn.Conv2d(3, 64, 11, padding=2), Blur(), relu()),
        nn.Sequential(nn.MaxPool2d(3, 1), Blur(), nn.Conv2d(64, 192, 5, padding=2), relu()),
        nn.Sequential(nn.MaxPool2d(3, 1), Blur(), nn.Conv2d(192, 384, 3, padding=1), relu()),
        nn.Sequential(nn.Conv2d(384, 256, 3, padding=1), relu()),
        nn.Sequential(nn.Conv2d(256, 256, 3, padding=1), relu()),
    ]
