"""Counts the size of an image's tokens and the parameters of the networks, from the params."""

import math
from dataclasses import dataclass
from functools import cache

from tvqrap.architecture import Architecture


@dataclass(frozen=True)
class Latent:
    """The tokens of one square image."""

    codes: int
    """Number of codes."""
    code_bits: int
    """Bits that a code needs: log2 of the codebook's size, rounded up."""
    structure: int
    """Number of values of the structure."""

    @property
    def packed_bytes(self) -> int:
        """Bytes of the codes with `code_bits` bits each."""
        return math.ceil(self.codes * self.code_bits / 8)

    @property
    def code_bytes(self) -> int:
        """Bytes of the codes as stored (uint16)."""
        return 2 * self.codes

    @property
    def structure_bytes(self) -> int:
        """Bytes of the structure as stored (float16)."""
        return 2 * self.structure


def latent_of(architecture: Architecture, side: int) -> Latent:
    """The tokens of a `side` x `side` image."""
    structure = 0
    if architecture.structure is not None:
        structure = architecture.structure_channels * (side // architecture.structure) ** 2
    return Latent(
        codes=(side // architecture.texture) ** 2,
        code_bits=(architecture.codebook - 1).bit_length(),
        structure=structure,
    )


@dataclass(frozen=True)
class Parameters:
    """Numbers of parameters."""

    tokenizer: int
    """All networks of stage 1, the small autoencoder included."""
    upscaler: int
    """All networks of upscaling: predictor, structure decoder, codebook and decoder."""


@cache
def parameters_of(architecture: Architecture) -> Parameters:
    """Counts the parameters without allocating them."""
    import torch

    from tvqrap.networks.tokenizer import Tokenizer
    from tvqrap.networks.upscaler import UpscalerNetwork

    with torch.device("meta"):
        networks = Tokenizer(architecture), UpscalerNetwork(architecture)
    return Parameters(*(sum(p.numel() for p in network.parameters()) for network in networks))
