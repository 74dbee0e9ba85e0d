"""Where and in which number format training computes."""

from typing import TypeVar

import torch
from torch import nn

from tvqrap.errors import UsageError
from tvqrap.training.settings import Compute

Module = TypeVar("Module", bound=nn.Module)


def on_device(module: Module, device: torch.device) -> Module:
    """Moves a network to its device, channels last in memory (a third of a step on a CPU)."""
    return module.to(device).to(memory_format=torch.channels_last)


def device_of(compute: Compute) -> torch.device:
    """The device asked for, with threads set; raises `UsageError` where there is no such device."""
    torch.set_num_threads(compute.threads)
    if compute.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("compute.device is 'cuda', but no CUDA device is usable; expected 'cpu'")
    return torch.device(compute.device)


def autocast(compute: Compute) -> torch.autocast:
    """The context that the networks run in."""
    return torch.autocast(
        compute.device, torch.bfloat16, enabled=compute.precision == "bfloat16", cache_enabled=False
    )
