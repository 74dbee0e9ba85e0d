"""Hyperparameters of the networks and the sizes that follow from them; needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import gcd
from typing import Any, Literal

SCALE = 4
"""An upscaled image is this many times wider and higher than its LR image."""

WINDOW = 8
"""Side of an attention window; maps with attention have sides that are multiples of it."""

TEXTURES = (4, 8)
STRUCTURES = (8, 16, 32, 64, 128)
CODEBOOKS = range(2, 2**16 + 1)
"""Codes are stored in 16 bits."""
SWIN_BLOCKS = (2, 4, 6)
STRUCTURE_WIDTHS = tuple(k / 16 for k in range(1, 33))
OPTIONAL = ("swin_blocks", "structure_width")
"""Numbers that `model.json` omits where they are the default."""

Assignment = Literal["hard", "soft"]
"""Input of an upscaler's decoder at each position: `hard`, the entry with the highest score (the
paper's); `soft`, the mean of all entries, weighted by the softmax of their scores."""


def norm_groups(channels: int, single: bool = False) -> int:
    """Groups of a group normalisation over `channels`: 32 in the paper's network.

    Groups hold two channels or more unless `single`. A group of one channel loses the channel's
    mean and contrast over the image; a narrow network then cannot learn the brightness of an image.
    """
    groups = gcd(32, channels)
    return groups if single or groups < channels else max(1, groups // 2)


def _heads(width: float) -> int:
    return max(1, int(256 * width) // 32)


# In the paper's network the narrowest convolution has 16 channels, the narrowest attention 128.
WIDTHS = tuple(k / 16 for k in range(1, 17) if 8 * k % _heads(k / 16) == 0)


@dataclass(frozen=True)
class Architecture:
    """The numbers of a network of the paper's family; the defaults are the paper's.

    Raises:
        ValueError: A value is impossible; the message names the key, the value and the allowed
            values.
    """

    width: float = 1.0
    """Channels relative to the paper's network: one of `WIDTHS`."""
    codebook: int = 1024
    """Number of entries of the codebook."""
    texture: int = 8
    """HR side over the side of the texture features and codes (8 in the paper): 4 or 8."""
    structure: int | None = 32
    """HR side over the side of the structure (Table 8 of the paper varies it). None: plain vector
    quantization without a structure branch."""
    swin_blocks: int = 6
    """Swin blocks in each of the predictor's five groups (6 in the paper); every second is shifted.
    A tokenizer has none of them, and the paper's number."""
    structure_width: float | None = None
    """Channels of the structure relative to the paper's 64: a multiple of 1/16, at most 2. None: as
    `width`, so that a narrow network has a structure of fewer numbers."""

    def __post_init__(self) -> None:
        _check("width", self.width, WIDTHS, ", ".join(f"{width:g}" for width in WIDTHS))
        _check("codebook", self.codebook, CODEBOOKS, "whole numbers from 2 to 65536")
        _check("texture", self.texture, TEXTURES, "4 and 8")
        _check("structure", self.structure, (None, *STRUCTURES), "8, 16, 32, 64, 128 and none")
        _check("swin_blocks", self.swin_blocks, SWIN_BLOCKS, "2, 4 and 6")
        allowed = (None, *STRUCTURE_WIDTHS)
        _check("structure_width", self.structure_width, allowed, "none and k / 16 from 1/16 to 2")

    @property
    def of_tokenizer(self) -> Architecture:
        """The architecture of the tokenizer that a predictor of this one needs."""
        return replace(self, swin_blocks=Architecture.swin_blocks)

    def channels(self, paper: int) -> int:
        """Scales a number of channels of the paper's network, a multiple of 16."""
        return int(paper * self.width)

    @property
    def texture_channels(self) -> int:
        """Channels of the texture features, and of a codebook entry (256 in the paper)."""
        return self.channels(256)

    @property
    def structure_channels(self) -> int:
        """Channels of the structure and of the layers around it (64 in the paper)."""
        width = self.width if self.structure_width is None else self.structure_width
        return int(64 * width)

    @property
    def heads(self) -> int:
        """Attention heads of every block (8 in the paper)."""
        return _heads(self.width)

    @property
    def structure_levels(self) -> int:
        """Number of halvings of the sides from texture to structure (2 in the paper)."""
        return 0 if self.structure is None else (self.structure // self.texture).bit_length() - 1

    @property
    def structure_reduction(self) -> int:
        """Factor that reduces an HR image for the small autoencoder (8 in the paper).

        Raises:
            ValueError: The network has no structure.
        """
        if self.structure is None:
            raise ValueError("a network without structure has no small autoencoder")
        return self.structure // 4

    @property
    def hr_multiple(self) -> int:
        """Sides of an HR image are multiples of this to be tokenized (128 in the paper)."""
        # Attention is at the texture level and, if there is one, at the level below it.
        attended = self.texture * (2 if self.structure_levels else 1)
        return max(WINDOW * attended, self.structure or 1)

    @property
    def lr_multiple(self) -> int:
        """Sides of an LR image are multiples of this to be upscaled (32 in the paper)."""
        return self.hr_multiple // SCALE

    def to_dict(self) -> dict[str, Any]:
        """Returns the values for JSON, those of `OPTIONAL` only where they are not the default."""
        return {
            name: value
            for name, value in asdict(self).items()
            if name not in OPTIONAL or value != getattr(Architecture, name)
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Architecture:
        """The inverse of `to_dict`.

        Raises:
            ValueError: A key is missing or unknown, or a value is impossible.
        """
        expected = [name for name in cls.__dataclass_fields__ if name not in OPTIONAL]
        if sorted({*values} - {*OPTIONAL}) != sorted(expected):
            raise ValueError(
                f"an architecture has the keys {', '.join(expected)}; "
                f"found {', '.join(sorted(values)) or 'none'}"
            )
        return cls(**values)


def _check(key: str, value: object, allowed: object, words: str) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    whole = key.endswith("width") or not isinstance(value, float)
    if not ((number and whole) or value is None) or value not in allowed:  # type: ignore[operator]
        raise ValueError(f"{key} is {value!r}; allowed are {words}")
