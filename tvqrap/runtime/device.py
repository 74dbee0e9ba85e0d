"""Devices and number formats."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from tvqrap.runtime.errors import UsageError

Precision = Literal["float32", "bfloat16", "float64"]
Module = TypeVar("Module", bound=nn.Module)


def select_device(name: str, option: str) -> torch.device:
    """Returns the device `name`, `cpu` or `cuda`.

    Raises:
        UsageError: `name` is another word, or torch finds no CUDA device. The message begins with
            `option`, the param or command-line option that gave the name.
    """
    if name not in ("cpu", "cuda"):
        raise UsageError(f"{option}: found {name!r}, expected cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"{option}: found 'cuda', but torch finds no CUDA device; expected cpu")
    return torch.device(name)


def on_device(module: Module, device: torch.device, dtype: torch.dtype | None = None) -> Module:
    """Moves a network to `device`, channels last in memory, which saves a third of a CPU step.

    `dtype` is the number format of its weights; None keeps the format.
    """
    return module.to(device, dtype).to(memory_format=torch.channels_last)


def weights_dtype(precision: Precision) -> torch.dtype:
    """The number format of weights, images and losses; bfloat16 is autocast alone."""
    return torch.float64 if precision == "float64" else torch.float32


def to_float32(tensor: Tensor) -> Tensor:
    """Converts bfloat16, as autocast leaves it, to float32; float64 stays float64."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """The context for forward passes: bfloat16 autocast where `precision` asks for it."""
    if precision != "bfloat16":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)


def no_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Returns a context inside autocast's in which nothing is rounded to bfloat16."""
    if device.type == "meta":  # which has no autocast
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
