"""The device that made a picture, as a result says it: other devices round otherwise."""

import platform

import torch


def device_name(device: str | torch.device) -> str:
    """What a torch device is: `cpu x86_64`, or `cuda` with the name of the GPU."""
    chosen = torch.device(device)
    if chosen.type == "cuda":
        return f"cuda {torch.cuda.get_device_name(chosen)}"
    return f"{chosen.type} {platform.machine()}"
