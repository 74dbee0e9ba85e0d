"""The discriminator of the adversarial loss."""

from __future__ import annotations

from torch import Tensor, nn


class Discriminator(nn.Module):
    """PatchGAN with two strided layers (pix2pix; kernel 4, batch norm, LeakyReLU 0.2).

    Images (N, 3, H, W) in [-1, 1], sides 12 or more, to scores (N, 1, about H/4, about W/4),
    positive for real images. `width` scales the paper's 64 features; `norm` is the batch norm.
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

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image)
