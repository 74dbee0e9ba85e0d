"""The published network's tensors and weights, rebuilt as tests/reference/README.md says."""

import json
import math
import zlib
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from tests.support.paths import ROOT

REFERENCE = ROOT / "tests/reference"
NOT_LEARNED = ("attn_mask", "relative_position_index")

Published = Literal["tokenizer", "upscaler"]
Shape = list[int]


def shapes(published: Published) -> dict[str, Shape]:
    """Names and shapes of all tensors in a file of stage 1 (tokenizer), or of stages 2 and 3."""
    listed = json.loads((REFERENCE / "state_dict.json").read_text())[published]
    return {name: shape for name, shape, _ in listed}


def weight(name: str, shape: Shape) -> Tensor:
    """The weights that the reference answers were computed with."""
    seed = zlib.crc32(name.encode())
    r = np.random.RandomState(seed).standard_normal(shape).astype(np.float32)
    if len(shape) >= 2:
        fan = 25 if "relative_position_bias_table" in name else np.prod(shape[1:])
        return torch.from_numpy(r / np.float32(np.sqrt(fan)))
    return torch.from_numpy(0.1 * r + (1 if name.endswith("weight") else 0))


def hollow(name: str, shape: Shape) -> Tensor:
    """Zeros of a shape that take no room in a file."""
    return torch.zeros(()).expand(shape)


def uniform(seed: int, *shape: int) -> Tensor:
    """The inputs that the reference answers were computed for."""
    values = np.random.RandomState(seed).uniform(-1, 1, shape)
    return torch.from_numpy(values.astype(np.float32))


def published_state(
    published: Published, learned: Callable[[str, Shape], Tensor] = hollow
) -> dict[str, Tensor]:
    """The content of `params_ema` in a file of the authors; `learned` gives the weights."""
    state = {}
    for name, shape in shapes(published).items():
        if name.endswith("attn_mask"):
            state[name] = mask(shape[0])
        elif name.endswith("relative_position_index"):
            state[name] = position_index()
        else:
            state[name] = learned(name, shape)
    return state


def mask(windows: int, window: int = 8, shift: int = 4) -> Tensor:
    """The mask of a square map of so many shifted windows: (windows, tokens, tokens), 0 or -100."""
    count = math.isqrt(windows)
    region = np.zeros((count * window, count * window))
    parts = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
    for number, (rows, columns) in enumerate((a, b) for a in parts for b in parts):
        region[rows, columns] = number
    tokens = region.reshape(count, window, count, window).swapaxes(1, 2).reshape(windows, -1)
    apart = tokens[:, :, None] != tokens[:, None, :]
    return torch.from_numpy(np.where(apart, -100, 0).astype(np.float32))


def position_index(window: int = 8) -> Tensor:
    """Row of the bias table for each pair of tokens of a window."""
    tokens = [(y, x) for y in range(window) for x in range(window)]
    return torch.tensor(
        [
            [(y - v + window - 1) * (2 * window - 1) + (x - u + window - 1) for v, u in tokens]
            for y, x in tokens
        ]
    )
