"""Counts the idle processor cores; more threads than these slow all programs down.

Threads of one process wait for each other by spinning. Where two processes together have more
threads than there are cores, they spin on cores that the other one needs.
"""

import math
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_STATISTICS = Path("/proc/stat")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_SECONDS = 0.25
"""Least time over which the use of cores is measured."""


class _Use(NamedTuple):
    """Processor time until now, in seconds."""

    at: float
    """Time of the clock."""
    all: float
    """Time of all processes, on the cores that this one may use."""
    own: float


_start: _Use | None = None


def watch_cores() -> None:
    """Begins to measure the use of cores, for a later `idle_cores`, which then need not wait."""
    global _start
    _start = _use()


def usable_cores() -> int:
    """Number of cores that this process may use: by its affinity and its control group's quota."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    with suppress(OSError, ValueError):
        quota, period = _QUOTA.read_text().split()
        cores = min(cores, math.ceil(int(quota) / int(period)))
    return max(1, cores)


def idle_cores() -> int:
    """Number of usable cores that other processes leave idle, at least 1.

    Measured since `watch_cores`, or over a quarter of a second. All usable cores where the system
    does not tell (elsewhere than on Linux).
    """
    first = _start or _use()
    if first is None:
        return usable_cores()
    time.sleep(max(0.0, first.at + _SECONDS - time.monotonic()))
    last = _use()
    if last is None:
        return usable_cores()
    others = (last.all - first.all - (last.own - first.own)) / (last.at - first.at)
    affinity = len(os.sched_getaffinity(0))
    return max(1, min(usable_cores(), round(affinity - others)))


def use_idle_cores() -> None:
    """Lets torch compute with as many threads as there are idle cores.

    OMP_NUM_THREADS, where it is set, stays the number of threads.
    """
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(idle_cores())


def busy_note(threads: int, setting: str) -> str:
    """One line where `threads` are more than there are idle cores; empty where they are not.

    `setting` is the param or option that holds their number.
    """
    idle = idle_cores()
    if threads <= idle:
        return ""
    return (
        f"the machine is busy: {idle} of {usable_cores()} cores idle, {threads} threads asked for, "
        f"which slow each other down; {setting} sets their number"
    )


def _use() -> _Use | None:
    try:
        cores = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        lines = [line.split() for line in _STATISTICS.read_text().splitlines()]
        ticks = os.sysconf("SC_CLK_TCK")
        # user, nice, system, then idle and waiting, then interrupts
        busy = sum(sum(map(int, times[:3] + times[5:7])) for name, *times in lines if name in cores)
    except (AttributeError, OSError, ValueError):
        return None
    own = os.times()
    return _Use(time.monotonic(), busy / ticks, own.user + own.system)
