"""Settings and images that the tests of the pipeline are made of."""

from typing import Any

import numpy as np
from PIL import Image

SINC = {"prob": 0.1, "large_from": 13, "cutoff_small": [1 / 3, 1.0], "cutoff_large": [0.2, 1.0]}
FILTERS = ["area", "bilinear", "bicubic"]


def blur(prob: float, sizes: list[int], kinds: dict[str, float], sigma: list[float]) -> Any:
    return {
        "prob": prob,
        "sizes": sizes,
        "kinds": kinds,
        "sigma": sigma,
        "rotation": [-1.0, 1.0],
        "beta_generalized": [0.5, 4.0],
        "beta_plateau": [1.0, 2.0],
        "low_beta_prob": 0.5,
        "sinc": SINC,
    }


def resize(up: float, down: float, keep: float, scale: list[float]) -> Any:
    return {"up": up, "down": down, "keep": keep, "scale": scale, "filters": FILTERS}


def noise(sigma: list[float], poisson_scale: list[float]) -> Any:
    return {
        "gaussian_prob": 0.5,
        "sigma": sigma,
        "poisson_scale": poisson_scale,
        "gray_prob": 0.4,
    }


KINDS = {
    "iso": 0.45,
    "aniso": 0.25,
    "generalized_iso": 0.12,
    "generalized_aniso": 0.03,
    "plateau_iso": 0.12,
    "plateau_aniso": 0.03,
}
TRAIN: dict[str, Any] = {
    "sharpen": None,
    "first": {
        "blur": blur(1.0, [7, 21], KINDS, [0.2, 3.0]),
        "resize": resize(0.2, 0.7, 0.1, [0.15, 1.5]),
        "noise": noise([1.0, 30.0], [0.05, 3.0]),
        "jpeg": [30, 95],
    },
    "second": {
        "prob": 0.5,
        "blur": blur(0.8, [7, 21], KINDS, [0.2, 1.5]),
        "resize": resize(0.3, 0.4, 0.3, [0.3, 1.2]),
        "noise": noise([1.0, 25.0], [0.05, 2.5]),
    },
    "final": {
        "sinc_prob": 0.8,
        "sizes": [7, 21],
        "cutoff": [1 / 3, 1.0],
        "filters": FILTERS,
        "jpeg": [30, 95],
        "jpeg_last_prob": 0.5,
    },
}
PAIRS: dict[str, Any] = {
    "seed": 1,
    "split_seed": 1,
    "splits": {"train": 0.6, "val": 0.2, "test": 0.2},
    "shard_size": 5,
    "storage": None,
    "teacher": "models/none",
    "sets": {
        "train": {
            "split": "train",
            "size": 32,
            "crop_mode": "zoom",
            "count": 18,
            "variants": 2,
            "flips": "random",
            "channel_shuffle_prob": 0.5,
            "degradation": "train",
            "target": "photo",
        },
        "test": {
            "split": "test",
            "size": 48,
            "crop_mode": "centre",
            "count": 4,
            "variants": 1,
            "flips": "none",
            "channel_shuffle_prob": 0.0,
            "degradation": "train",
            "target": "photo",
        },
    },
    "degradations": {"train": TRAIN},
}


def texture(seed: int, height: int, width: int) -> np.ndarray:
    """A smooth random uint8 image with edges, unlike that of any other seed."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 7, 3), np.uint8))
    image = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).copy()
    image[height // 3 : height // 2, width // 4 : width // 2] = rng.integers(0, 256, 3)
    return image
