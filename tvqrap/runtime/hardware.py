"""The device and library versions that a result depends on, and the cores that are idle."""

import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_CPU_INFO = Path("/proc/cpuinfo")
_CPU_TIMES = Path("/proc/stat")


@dataclass(frozen=True)
class Machine:
    """A kind of device and a version of torch. Equal ones give equal bytes."""

    device: str
    """Name of the GPU, or model and instruction set of the CPU."""
    torch: str
    """Version."""

    def __str__(self) -> str:
        return f"{self.device} with torch {self.torch}"

    @classmethod
    def here(cls, device: str) -> "Machine":
        """That of this process, `device` being cpu or cuda."""
        import torch

        if device == "cuda":
            return cls(torch.cuda.get_device_name(), torch.__version__)
        return cls(f"{_cpu()}, {torch.backends.cpu.get_cpu_capability()}", torch.__version__)


def _cpu() -> str:
    """Model of the CPU; kernels choose block sizes by it, and sums their order by those."""
    try:
        for line in _CPU_INFO.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    except (OSError, UnicodeDecodeError):
        pass
    return platform.processor() or platform.machine()


def device_name(device: "str | torch.device") -> str:
    """What a torch device is: `cpu x86_64`, or `cuda` with the name of the GPU."""
    import torch

    chosen = torch.device(device)
    if chosen.type == "cuda":
        return f"cuda {torch.cuda.get_device_name(chosen)}"
    return f"{chosen.type} {platform.machine()}"


def idle_cores(seconds: float = 0.1) -> int:
    """Counts the cores that this process may use and that no process keeps busy; at least 1.

    Watches the cores for `seconds`. Returns all cores where the system does not tell.
    """
    before = _idle_ticks()
    time.sleep(seconds)
    after = _idle_ticks()
    if before is None or after is None:
        return os.cpu_count() or 1
    ticks = seconds * os.sysconf("SC_CLK_TCK")
    idle = sum(min(1.0, (after[core] - before[core]) / ticks) for core in after if core in before)
    return max(1, round(idle))


def _idle_ticks() -> dict[int, int] | None:
    """Clock ticks that each core this process may use was idle since the start of the system."""
    try:
        allowed = os.sched_getaffinity(0)
        lines = _CPU_TIMES.read_text().splitlines()
        times = [line.removeprefix("cpu").split() for line in lines if line.startswith("cpu")]
        cores = {int(core): int(idle) for core, _, _, _, idle, *_ in times[1:]}  # 0: all cores
    except (OSError, ValueError, AttributeError):
        return None
    return {core: idle for core, idle in cores.items() if core in allowed}
