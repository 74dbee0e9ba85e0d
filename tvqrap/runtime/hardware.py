"""The device and library versions that a result depends on, and the cores that are idle."""

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Machine:
    """A model of device and a version of torch; equal ones compute equal bytes."""

    device: str
    """Name of the GPU, or model and instruction set of the CPU."""
    torch: str
    """Version."""

    def __str__(self) -> str:
        return f"{self.device} with torch {self.torch}"

    @classmethod
    def here(cls, device: str) -> "Machine":
        """The machine of this process; `device` is cpu or cuda."""
        import torch

        if device == "cuda":
            return cls(torch.cuda.get_device_name(), torch.__version__)
        return cls(f"{_cpu()}, {torch.backends.cpu.get_cpu_capability()}", torch.__version__)


def _cpu() -> str:
    """Model of the CPU: kernels choose their block sizes by it, and those set the order of sums."""
    try:
        for line in _CPU_INFO.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    except (OSError, UnicodeDecodeError):
        pass
    return platform.processor() or platform.machine()


def device_name(device: "str | torch.device") -> str:
    """The name of a torch device: `cpu x86_64`, or `cuda` with the name of the GPU."""
    import torch

    chosen = torch.device(device)
    if chosen.type == "cuda":
        return f"cuda {torch.cuda.get_device_name(chosen)}"
    return f"{chosen.type} {platform.machine()}"
