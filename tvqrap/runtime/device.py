"""Devices and number formats."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from tvqrap.runtime.device_names import check_device_name
from tvqrap.runtime.errors import UsageError

Precision = Literal["float32", "bfloat16", "float64"]
Module = TypeVar("Module", bound=nn.Module)

META = torch.device("meta")
"""Device of tensors that have a shape and no content."""


def select_device(name: str, option: str = "device") -> torch.device:
    """Returns the device of a name: `auto`, `cpu`, `cuda`, `cuda:1`, `mps` or `xpu`.

    `auto` is the first that torch finds of CUDA, MPS and XPU, else the CPU.

    Raises:
        UsageError: The name is another word, or torch finds no such device. The message begins with
            `option`, the param or command-line option that gave the name.
    """
    try:
        check_device_name(name)
    except ValueError as error:
        raise UsageError(f"{option}{str(error).removeprefix('device')}") from None
    counts = {
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
        "xpu": torch.xpu.device_count(),
    }
    if name == "auto":
        return torch.device(next((kind for kind, count in counts.items() if count), "cpu"))
    device = torch.device(name)
    if device.type != "cpu" and (device.index or 0) >= counts[device.type]:
        present = [
            kind if number == 0 else f"{kind}:{number}"
            for kind, count in counts.items()
            for number in range(count)
        ]
        found = ", ".join([*present, "cpu"])
        raise UsageError(f"{option} is {name!r}, but torch finds no such device, only {found}")
    return device


def means_cuda(name: str) -> bool:
    """Whether a name stands for a CUDA device, as `auto` does where torch finds one."""
    return name.startswith("cuda") or (name == "auto" and torch.cuda.is_available())


def worker_devices(name: str) -> int:
    """Number of workers that a name has devices for: one on each CUDA device of this machine.

    It is 1 for a device with a number, and for other kinds of device.
    """
    return max(1, torch.cuda.device_count()) if means_cuda(name) and ":" not in name else 1


def set_cuda_arithmetic(*, tf32: bool, cudnn_benchmark: bool) -> None:
    """Sets how this process computes float32 products on CUDA devices.

    `tf32`: factors of convolutions and matrix products are rounded to TF32. `cudnn_benchmark`:
    cuDNN times its algorithms and takes the fastest. PyTorch's own default rounds convolutions
    alone.
    """
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = cudnn_benchmark


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
    if device.type == "meta":  # the meta device has no autocast
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
