"""The tokenizer: an HR image to structure and texture codes, and back (paper, section 3.1).

Images are float32 (N, 3, H, W) in [-1, 1], H and W multiples of `Architecture.hr_multiple`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tvqrap.architecture import Architecture
from tvqrap.networks.blocks import Down, Norm, Res, SwinGroup, Up, conv3
from tvqrap.networks.codebook import Codebook, Quantized


class Encoded(NamedTuple):
    """Features of an HR image; sides are the image's over `Architecture.structure`, `.texture`."""

    structure: Tensor | None
    """F^L, (N, structure channels, H/32, W/32 in the paper); None without a structure branch."""
    texture: Tensor
    """F^H before quantization, (N, texture channels, H/8, W/8 in the paper)."""
    decoded_structure: Tensor | None
    """S: the structure at the size and with the channels of the texture, with its gradient."""


class Reconstruction(NamedTuple):
    """The reconstruction of an HR image, with its features."""

    image: Tensor
    """(N, 3, H, W), not clamped."""
    encoded: Encoded
    quantized: Quantized | None
    """None if the texture was decoded without quantization."""


class SmallReconstruction(NamedTuple):
    """The small autoencoder's reconstruction of a reduced HR image."""

    reduced: Tensor
    """Its input: the image area-averaged by `Architecture.structure_reduction`."""
    structure: Tensor
    """F_down, the target of the structure's alignment; it has the shape of the structure."""
    image: Tensor
    """The reconstruction of `reduced`."""


class Encoder(nn.Module):
    """E: network from an HR image to texture features and structure."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        c64, c128, c256, c512 = (arch.channels(c) for c in (64, 128, 256, 512))
        # Texture at 1/4 has no level between 1/4 and 1/8.
        third = [Res(c256, c128), Res(c128), Down(c128)] if arch.texture == 8 else []
        self.texture = nn.Sequential(
            conv3(3, c64),
            Res(c64),
            Res(c64),
            Down(c64),
            Res(c128),
            Res(c128),
            Down(c128),
            *third,
            Res(c256),
            SwinGroup(c256, arch.heads, 4),
            Res(c256),
        )
        self.structure: nn.Sequential | None = None
        if arch.structure is None:
            return
        channels = arch.structure_channels
        levels: list[nn.Module] = []
        for level in range(arch.structure_levels):
            attention = [SwinGroup(c256, arch.heads, 2)] if level == 0 else []
            levels += [Down(c256), Res(c512, c256), *attention, Res(c256)]
        self.structure = nn.Sequential(
            *levels,
            Res(c256, c128),
            Res(c128),
            Res(c128, channels),
            Res(channels),
            Res(channels),
            Norm(channels),
            conv3(channels, channels),
        )

    def forward(self, hr: Tensor) -> tuple[Tensor | None, Tensor]:
        """Returns (structure, texture features)."""
        texture = self.texture(hr)
        return None if self.structure is None else self.structure(texture), texture


def structure_decoder(arch: Architecture) -> nn.Sequential:
    """Network from the structure to S, which has the texture's size and channels."""
    c128, c256 = (arch.channels(c) for c in (128, 256))
    channels = arch.structure_channels
    layers: list[nn.Module] = [conv3(channels, channels), Res(channels), Res(channels)]
    for _ in range(arch.structure_levels - 1):
        layers += [Res(channels), Res(channels), Res(channels), Up(channels)]
    if arch.structure_levels:
        layers += [
            Res(channels, c128),
            SwinGroup(c128, arch.heads, 2),
            Res(c128),
            SwinGroup(c128, arch.heads, 2),
            Res(c128),
            Up(c128),
        ]
        channels = c128
    return nn.Sequential(*layers, Res(channels, c256), Res(c256))


def decoder(arch: Architecture) -> nn.Sequential:
    """D: network from the sum of S and the quantized texture to an image."""
    c64, c128, c256 = (arch.channels(c) for c in (64, 128, 256))
    third = [Up(c128), Res(c128), Res(c128), Res(c128)] if arch.texture == 8 else []
    return nn.Sequential(
        Res(c256),
        SwinGroup(c256, arch.heads, 2),
        Res(c256),
        SwinGroup(c256, arch.heads, 2),
        Res(c256),
        Up(c256),
        Res(c256, c128),
        Res(c128),
        Res(c128),
        *third,
        Up(c128),
        Res(c128, c64),
        Res(c64),
        Res(c64),
        Norm(c64),
        conv3(c64, 3),
    )


class SmallAutoencoder(nn.Module):
    """Autoencoder of a reduced HR image, whose code the structure is aligned to (stage 1 only)."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        c32, c64, c128 = (arch.channels(c) for c in (32, 64, 128))
        channels = arch.structure_channels
        self.reduction = arch.structure_reduction
        # The paper normalises these 32 channels in 32 groups.
        single = arch.width == 1
        self.encoder = nn.Sequential(
            conv3(3, c32),
            Res(c32, single=single),
            Res(c32, single=single),
            Down(c32, bias=True),
            Res(c64),
            Res(c64),
            Down(c64, bias=True),
            Res(c128, channels),
            Res(channels),
        )
        self.decoder = nn.Sequential(
            conv3(channels, c64),
            Res(c64),
            Res(c64),
            Up(c64),
            Res(c64),
            Res(c64),
            Up(c64),
            Res(c64, c32, single=single),
            Res(c32, single=single),
            Norm(c32, single),
            conv3(c32, 3),
        )

    def forward(self, hr: Tensor) -> SmallReconstruction:
        """Reduces an HR image and reconstructs the reduced image."""
        reduced = F.avg_pool2d(hr, self.reduction)
        structure = self.encoder(reduced)
        return SmallReconstruction(reduced, structure, self.decoder(structure))


class Tokenizer(nn.Module):
    """The network of stage 1. Without a structure branch, three parts are None."""

    structure_decoder: nn.Sequential | None
    small_autoencoder: SmallAutoencoder | None

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        channels = architecture.texture_channels
        structured = architecture.structure is not None
        self.encoder = Encoder(architecture)
        self.structure_decoder = structure_decoder(architecture) if structured else None
        self.fuse = nn.Sequential(
            Res(2 * channels if structured else channels, channels),
            Res(channels),
            Norm(channels),
            conv3(channels, channels),
        )
        self.codebook = Codebook(architecture.codebook, channels)
        self.decoder = decoder(architecture)
        self.small_autoencoder = SmallAutoencoder(architecture) if structured else None

    def encode(self, hr: Tensor) -> Encoded:
        """Encodes an HR image to structure and texture, with their gradients."""
        structure, texture = self.encoder(hr)
        decoded = self._decode_structure(structure)
        return Encoded(
            structure,
            self.fuse(texture if decoded is None else torch.cat((decoded, texture), 1)),
            decoded,
        )

    @torch.no_grad()
    def tokenize(self, hr: Tensor) -> tuple[Tensor | None, Tensor]:
        """Returns (structure, codes); codes are int64 (N, H/8, W/8 in the paper)."""
        encoded = self.encode(hr)
        return encoded.structure, self.codebook.nearest(encoded.texture)

    def decode(self, structure: Tensor | None, quantized: Tensor | None) -> Tensor:
        """Decodes a structure and a quantized texture (N, texture channels, h, w) to an image.

        Without one of them, the image shows the content of the other (Figure 9 of the paper).
        """
        return self.decoder(join(self._decode_structure(structure), quantized))

    def decode_codes(self, structure: Tensor | None, codes: Tensor) -> Tensor:
        """Decodes a structure and codes (N, h, w) to an image."""
        return self.decode(structure, self.codebook.lookup(codes))

    def forward(self, hr: Tensor, quantize: bool = True) -> Reconstruction:
        """Encodes and decodes; without `quantize` the texture is not quantized."""
        encoded = self.encode(hr)
        quantized = self.codebook.quantize(encoded.texture) if quantize else None
        texture = encoded.texture if quantized is None else quantized.values
        image = self.decoder(join(encoded.decoded_structure, texture))
        return Reconstruction(image, encoded, quantized)

    def _decode_structure(self, structure: Tensor | None) -> Tensor | None:
        if structure is None or self.structure_decoder is None:
            return None
        return self.structure_decoder(structure)


def join(decoded_structure: Tensor | None, texture: Tensor | None) -> Tensor:
    """Input of the decoder: the sum of S and texture, both (N, C, h, w); one may be None.

    Raises:
        ValueError: Both are None.
    """
    if decoded_structure is None and texture is None:
        raise ValueError("an image is decoded from structure, texture or both; found neither")
    if decoded_structure is None or texture is None:
        return texture if decoded_structure is None else decoded_structure  # type: ignore[return-value]
    return decoded_structure + texture
