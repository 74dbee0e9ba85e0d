"""Baselines: Pillow's bicubic and Lanczos interpolation."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tvqrap.architecture import SCALE

Baseline = Literal["bicubic", "lanczos"]

_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}


def enlarge(lr: NDArray[np.uint8], kind: Baseline) -> NDArray[np.uint8]:
    """Enlarges uint8 (H, W, 3) four times, to uint8 (4H, 4W, 3)."""
    size = (SCALE * lr.shape[1], SCALE * lr.shape[0])
    return np.asarray(Image.fromarray(lr).resize(size, _FILTERS[kind]))
