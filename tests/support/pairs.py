"""Settings and images for the tests of the pipeline."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.config import DataSettings
from tests.support.profile import smoke

_SMOKE = smoke("pairs")

TRAIN: dict[str, Any] = _SMOKE["degradations"]["train"]
KINDS: dict[str, float] = TRAIN["first"]["blur"]["kinds"]
PAIRS: dict[str, Any] = {
    **_SMOKE,
    "split_seed": 1,
    "splits": {"train": 0.6, "val": 0.2, "test": 0.2},
    "shard_size": 5,
    "sets": {
        "train": {**_SMOKE["sets"]["train"], "size": 32, "count": 18, "degradation": "train"},
        "test": {**_SMOKE["sets"]["test"], "size": 48, "count": 4, "degradation": "train"},
    },
    "degradations": {"train": TRAIN},
}


def data_settings(
    photos: str | Path,
    *,
    min_side: int = 48,
    max_pixels: int = 100_000,
    max_skipped_fraction: float = 0.5,
    licences: str | None = None,
) -> DataSettings:
    """Settings of small photographs."""
    return DataSettings(
        photos=str(photos),
        licences=licences,
        min_side=min_side,
        max_pixels=max_pixels,
        max_skipped_fraction=max_skipped_fraction,
    )


def texture(seed: int, height: int, width: int) -> np.ndarray:
    """A smooth random uint8 image with edges, unlike that of any other seed."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 7, 3), np.uint8))
    image = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).copy()
    image[height // 3 : height // 2, width // 4 : width // 2] = rng.integers(0, 256, 3)
    return image
