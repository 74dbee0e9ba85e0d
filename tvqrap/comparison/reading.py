"""Image files as pixels that can be scored."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tvqrap.images.open import read_image
from tvqrap.runtime.errors import UserError
from tvqrap.runtime.text import readable

_PNG = b"\x89PNG\r\n\x1a\n"
_DEPTH_AT = 24
"""Place of the bit depth in a PNG: after its signature and the head of its first chunk."""


@dataclass(frozen=True)
class Read:
    """What a file holds."""

    pixels: NDArray[np.uint8] | str
    """uint8 (H, W, 3), or one line that says why there are none."""
    note: str = ""
    """What was changed on the way; empty for nothing."""


def read_scored(path: Path) -> Read:
    """Reads an image that is to be scored, as 8-bit RGB, upright.

    What is transparent has no colour of its own and cannot be scored; 16 bits are reduced to 8, as
    a note says, because scores are of 8 bits.
    """
    shown = readable(str(path))
    try:
        if _is_transparent(path):
            return Read(f"{shown}: is transparent, expected opaque pixels")
        pixels = np.asarray(read_image(path))
    except UserError as error:
        return Read(readable(str(error)))
    return Read(pixels, f"{shown}: 16 bits reduced to 8" if _has_16_bits(path) else "")


def _is_transparent(path: Path) -> bool:
    """Whether an image has a pixel that is not opaque; False for what cannot be read."""
    try:
        with Image.open(path) as image:
            if not image.has_transparency_data:
                return False
            lowest, _ = image.convert("RGBA").getchannel("A").getextrema()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False
    return float(lowest) < 255  # type: ignore[arg-type]  # one band has two numbers


def _has_16_bits(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(_DEPTH_AT + 1)
    if head.startswith(_PNG):
        return head[_DEPTH_AT] == 16
    with Image.open(path) as image:
        return image.mode.startswith("I")
