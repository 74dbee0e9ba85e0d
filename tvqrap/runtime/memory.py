"""Free memory, and a setting that keeps freed memory in the process."""

import ctypes
import sys
from pathlib import Path

_GROUP = Path("/sys/fs/cgroup")
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of malloc.h


def free_memory() -> int | None:
    """Bytes of main memory that are free without swapping, None where that is not known.

    The lesser of the machine's free memory and the rest of the control group's limit.
    """
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        values = dict(line.split(":", 1) for line in lines)
        free = int(values["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    try:
        allowed = int((_GROUP / "memory.max").read_text())
        used = int((_GROUP / "memory.current").read_text())
        lines = (_GROUP / "memory.stat").read_text().splitlines()
        numbers = {name: int(number) for name, number in map(str.split, lines)}
    except (OSError, ValueError):  # no control group, or one without a limit ("max")
        return free
    # Cached files count as free: the kernel gives them up when memory is asked for.
    cached = numbers.get("inactive_file", 0) + numbers.get("active_file", 0)
    return min(free, max(0, allowed - used + cached))


def keep_freed_memory() -> None:
    """Makes the C library reuse large blocks of memory instead of returning them at once.

    A network allocates and frees maps of many megabytes. With glibc's defaults each of them is
    mapped, cleared page by page and unmapped again, which took half of the time on large images.
    The setting holds for the whole process: it is for programs, not for libraries. It does nothing
    elsewhere than on Linux with glibc.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        largest = 2**31 - 1
        mallopt(_MMAP_THRESHOLD, largest)
        mallopt(_TRIM_THRESHOLD, largest)
