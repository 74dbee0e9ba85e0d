"""Image files as pixels that can be scored."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tvqrap.images.reading.high_bit_depth import eight_bits
from tvqrap.photo_io.reader import read_photo
from tvqrap.runtime.errors import UserError
from tvqrap.runtime.text import printable


@dataclass(frozen=True)
class ScoredFile:
    """The pixels of a file."""

    pixels: NDArray[np.uint8] | str
    """uint8 (H, W, 3), or the reason why there are none, one line."""
    note: str = ""
    """One line about a change that was made to the pixels; empty for none."""


def read_scored(path: Path) -> ScoredFile:
    """Reads an image that is to be scored, as 8-bit RGB, upright.

    Transparent pixels have no certain colour, so an image with any of them is refused. 16 bits are
    rounded to 8, as the scores are of 8 bits, and a note says so.
    """
    try:
        read = read_photo(path)
    except UserError as error:
        return ScoredFile(printable(str(error)))
    photo = read.photo
    if photo.alpha is not None:
        return ScoredFile(f"{printable(path)}: is transparent, expected opaque pixels")
    notes = [*read.notes]
    if photo.pixels.dtype == np.uint16:
        notes.append("16 bits reduced to 8")
    note = f"{printable(path)}: {'; '.join(notes)}" if notes else ""
    return ScoredFile(eight_bits(photo.pixels), note)
