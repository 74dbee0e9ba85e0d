"""The discriminators of the adversarial loss.

Each takes images (N, 3, H, W) in [-1, 1] and gives a list of maps: features of its layers, and last
the scores, positive for real images.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm


class PatchDiscriminator(nn.Module):
    """PatchGAN with two strided layers (pix2pix; kernel 4, batch norm, LeakyReLU 0.2): the paper's.

    Sides of 12 or more. Scores are (N, 1, about H/4, about W/4). `width` scales the paper's 64
    features; `norm` is the batch norm.
    """

    def __init__(self, width: float = 1.0, norm: type[nn.BatchNorm2d] = nn.BatchNorm2d) -> None:
        super().__init__()
        c64, c128, c256 = (max(1, int(c * width)) for c in (64, 128, 256))
        self.layers = nn.Sequential(
            nn.Conv2d(3, c64, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(c64, c128, 4, stride=2, padding=1, bias=False),
            norm(c128),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(c128, c256, 4, padding=1, bias=False),
            norm(c256),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(c256, 1, 4, padding=1),
        )
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, 0.0, 0.02)
            elif isinstance(layer, nn.BatchNorm2d):
                nn.init.normal_(layer.weight, 1.0, 0.02)

    def forward(self, image: Tensor) -> list[Tensor]:
        features = []
        for layer in self.layers:
            image = layer(image)
            if isinstance(layer, nn.LeakyReLU):
                features.append(image)
        return [*features, image]


class UNetDiscriminator(nn.Module):
    """U-Net with spectral norm (Real-ESRGAN, Wang et al., 2021): a score for each pixel.

    It has no batch statistics: with those, the images of one batch may share an error of colour
    that the discriminator does not see. Features are those of the way down, at 1/2, 1/4 and 1/8.
    Sides are of 8 or more. `width` scales the 64 features of the first layer.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        c = max(1, int(64 * width))
        self.first = nn.Conv2d(3, c, 3, padding=1)
        self.down = nn.ModuleList(
            spectral_norm(nn.Conv2d(side * c, 2 * side * c, 4, 2, 1, bias=False))
            for side in (1, 2, 4)
        )
        self.up = nn.ModuleList(
            spectral_norm(nn.Conv2d(2 * side * c, side * c, 3, padding=1, bias=False))
            for side in (4, 2, 1)
        )
        self.last = spectral_norm(nn.Conv2d(c, c, 3, padding=1, bias=False))
        self.score = nn.Conv2d(c, 1, 3, padding=1)

    def forward(self, image: Tensor) -> list[Tensor]:
        x = F.leaky_relu(self.first(image), 0.2)
        levels = [x]
        for down in self.down:
            levels.append(F.leaky_relu(down(levels[-1]), 0.2))
        x = levels[-1]
        for up, beside in zip(self.up, levels[-2::-1], strict=True):
            x = F.interpolate(x, beside.shape[2:], mode="bilinear")
            x = F.leaky_relu(up(x), 0.2) + beside
        return [*levels[1:], self.score(F.leaky_relu(self.last(x), 0.2))]
