"""Where and in which number format training computes."""

from typing import TypeVar

import torch
from torch import Tensor, nn

from tvqrap.errors import UsageError
from tvqrap.training.settings import Compute

Module = TypeVar("Module", bound=nn.Module)


def on_device(module: Module, device: torch.device, dtype: torch.dtype | None = None) -> Module:
    """Moves a network to its device, channels last in memory (a third of a step on a CPU).

    `dtype`: number format of its weights; none: as they are.
    """
    return module.to(device, dtype).to(memory_format=torch.channels_last)


def device_of(compute: Compute) -> torch.device:
    """The device asked for, with threads set; raises `UsageError` where there is no such device."""
    torch.set_num_threads(compute.threads)
    if compute.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("compute.device is 'cuda', but no CUDA device is usable; expected 'cpu'")
    return torch.device(compute.device)


def weights_format(compute: Compute) -> torch.dtype:
    """Number format of weights, images and losses."""
    return torch.float64 if compute.precision == "float64" else torch.float32


def full(tensor: Tensor) -> Tensor:
    """What autocast may have made bfloat16 as float32; float64 stays."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def autocast(compute: Compute) -> torch.autocast:
    """The context that the networks run in."""
    return torch.autocast(
        compute.device, torch.bfloat16, enabled=compute.precision == "bfloat16", cache_enabled=False
    )
