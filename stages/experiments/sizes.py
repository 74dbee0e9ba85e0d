"""What a tokenizer's representation of an image and its networks cost, counted from the params."""

import math
from dataclasses import dataclass
from functools import cache

from tvqrap.architecture import Architecture


@dataclass(frozen=True)
class Latent:
    """The tokens of one square image."""

    codes: int
    """How many codes it has."""
    code_bits: int
    """Bits of a code that are needed: log2 of the codebook, rounded up."""
    structure: int
    """How many numbers its structure has."""

    @property
    def packed_bytes(self) -> int:
        """Bytes of the codes, were no bit wasted."""
        return math.ceil(self.codes * self.code_bits / 8)

    @property
    def code_bytes(self) -> int:
        """Bytes of the codes as they are stored (uint16)."""
        return 2 * self.codes

    @property
    def structure_bytes(self) -> int:
        """Bytes of the structure as it is stored (float16)."""
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
    """Numbers in the weights of the networks."""

    tokenizer: int
    """All of stage 1, the small autoencoder among it."""
    upscaler: int
    """All that upscaling uses: predictor, structure decoder, codebook and decoder."""


@cache
def parameters_of(architecture: Architecture) -> Parameters:
    """Counts the parameters without making them."""
    import torch

    from tvqrap.networks.tokenizer import Tokenizer
    from tvqrap.networks.upscaler import UpscalerNetwork

    with torch.device("meta"):
        networks = Tokenizer(architecture), UpscalerNetwork(architecture)
    return Parameters(*(sum(p.numel() for p in network.parameters()) for network in networks))
