"""Memory of devices: how much is free, and whether it ran out."""

import torch

from tvqrap.runtime.memory import free_memory


def free_device_memory(device: torch.device) -> int | None:
    """Bytes that are free on a device, None where that is not known."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "xpu":
        return torch.xpu.mem_get_info(device)[0]
    return free_memory()  # MPS shares it with the processor


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that the memory of a device ran out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # On a CPU and on MPS, torch has no class of its own for it.
    return isinstance(error, RuntimeError) and "memory" in str(error)


def empty_cache(device: torch.device) -> None:
    """Gives the memory back that torch keeps for later use on a device."""
    if device.type in ("cuda", "xpu", "mps"):
        getattr(torch, device.type).empty_cache()
