"""The predictor: structure and texture codes from an LR image (paper, section 3.2).

LR images are float32 (N, 3, H, W) in [-1, 1], H and W multiples of `Architecture.lr_multiple`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from tvqrap.architecture import Architecture
from tvqrap.networks.blocks import Down, Res, SwinGroup, conv3
from tvqrap.runtime.device import no_autocast, to_float32


class Prediction(NamedTuple):
    """Tokens predicted from an LR image, with the sides of the tokens of its HR image."""

    structure: Tensor | None
    """Predicted F^L, (N, structure channels, h, w); None without a structure branch."""
    logits: Tensor
    """Scores of the codes, (N, codebook, h, w), channels last in memory."""
    decoded_structure: Tensor | None
    """S of the predicted structure, with its gradient, for the decoder."""


class LREncoder(nn.Module):
    """Encodes an LR image to the texture query and the features for the structure head."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        c64, c128, c256, c512 = (arch.channels(c) for c in (64, 128, 256, 512))
        # Texture at 1/4 of the HR side has the size of the LR image.
        first = [Down(c128), Res(c256)] if arch.texture == 8 else [Res(c128, c256)]
        self.texture = nn.Sequential(
            conv3(3, c64),
            Res(c64, c128),
            Res(c128),
            Res(c128),
            *first,
            Res(c256),
            nn.Sequential(
                *(SwinGroup(c256, arch.heads, arch.swin_blocks, conv=True) for _ in range(2))
            ),
            Res(c256),
            Res(c256),
        )
        self.structure: nn.Sequential | None = None
        if arch.structure is None:
            return
        levels: list[nn.Module] = []
        for level in range(arch.structure_levels):
            down = [Down(c128), Res(c256)] if level else [Down(c256), Res(c512, c256)]
            levels += [*down, Res(c256, c128)]
        self.structure = nn.Sequential(*levels)

    def forward(self, lr: Tensor) -> tuple[Tensor | None, Tensor]:
        """Returns (features for the structure head, texture query)."""
        query = self.texture(lr)
        return None if self.structure is None else self.structure(query), query


def structure_head(arch: Architecture) -> nn.Sequential:
    """Network from the LR encoder's features to the predicted structure."""
    c128, c256, channels = arch.channels(128), arch.channels(256), arch.structure_channels
    first = Res(c128) if arch.structure_levels else Res(c256, c128)
    return nn.Sequential(first, Res(c128, channels), Res(channels), Res(channels))


class CodeHead(nn.Module):
    """Network from texture query and S to a score for each code."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        channels = arch.texture_channels
        self.fuse = nn.Sequential(
            Res(channels if arch.structure is None else 2 * channels, channels),
            SwinGroup(channels, arch.heads, arch.swin_blocks, conv=True),
            Res(channels),
        )
        self.transformer = nn.Sequential(
            *(SwinGroup(channels, arch.heads, arch.swin_blocks) for _ in range(2))
        )
        self.norm = nn.LayerNorm(channels)
        self.score = nn.Linear(channels, arch.codebook, bias=False)

    def forward(self, query: Tensor, decoded_structure: Tensor | None) -> Tensor:
        """Returns scores (N, codebook, h, w); no gradient reaches the structure.

        The last layer computes in float32 or wider under autocast too: scores rounded to bfloat16
        tie, and other codes are chosen.
        """
        if decoded_structure is not None:
            query = torch.cat((decoded_structure.detach(), query), 1)
        h = to_float32(self.transformer(self.fuse(query))).permute(0, 2, 3, 1)
        with no_autocast(h.device):
            return self.score(self.norm(h)).permute(0, 3, 1, 2)


class Predictor(nn.Module):
    """The network of stages 2 and 3. Without a structure branch, it has no structure head."""

    structure_head: nn.Sequential | None

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.lr_encoder = LREncoder(architecture)
        self.structure_head = (
            None if architecture.structure is None else structure_head(architecture)
        )
        self.code_head = CodeHead(architecture)

    def forward(self, lr: Tensor, structure_decoder: nn.Module | None) -> Prediction:
        """Predicts the tokens of the HR image.

        `structure_decoder` is the tokenizer's, which the caller freezes; None without a structure
        branch.

        Raises:
            ValueError: The structure decoder is missing, or given without a structure branch.
        """
        if (structure_decoder is None) != (self.structure_head is None):
            wanted = "no" if self.structure_head is None else "a"
            raise ValueError(f"a predictor of this architecture takes {wanted} structure decoder")
        features, query = self.lr_encoder(lr)
        structure = decoded = None
        if self.structure_head is not None and structure_decoder is not None:
            structure = self.structure_head(features)
            decoded = structure_decoder(structure)
        return Prediction(structure, self.code_head(query, decoded), decoded)
