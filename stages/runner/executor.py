"""The executor of a stage's tasks and its number of workers.

Neither changes a result, so environment variables choose them rather than params.
"""

import os
from dataclasses import dataclass
from typing import get_args

from pipeline.executor.run import ExecutorKind
from tvqrap.runtime.errors import UsageError

EXECUTOR = "TVQRAP_EXECUTOR"
WORKERS = "TVQRAP_WORKERS"


@dataclass(frozen=True)
class Executor:
    """Runs the tasks of a stage."""

    kind: ExecutorKind
    count: int
    """Largest number of workers."""


def chosen_executor(usual: ExecutorKind) -> Executor:
    """The executor that TVQRAP_EXECUTOR names (serial, processes or ray), else `usual`.

    Raises `UsageError` where it or TVQRAP_WORKERS has another value.
    """
    given = os.environ.get(EXECUTOR) or usual
    kinds: tuple[ExecutorKind, ...] = get_args(ExecutorKind)
    for kind in kinds:
        if given == kind:
            return Executor(kind, worker_count(on_ray=kind == "ray"))
    raise UsageError(f"{EXECUTOR} is {given!r}, expected one of {', '.join(kinds)}")


def worker_count(*, on_ray: bool = False) -> int:
    """The number in TVQRAP_WORKERS; without it this machine's cores.

    With `on_ray` and RAY_ADDRESS the default fills the cluster. Raises `UsageError` where the
    variable is no positive number.
    """
    given = os.environ.get(WORKERS)
    if given:
        if not given.isdecimal() or int(given) < 1:
            raise UsageError(f"{WORKERS} is {given!r}, expected a number of 1 or more")
        return int(given)
    if on_ray and os.environ.get("RAY_ADDRESS"):
        return 1_000_000  # Ray starts as many as fit, and no more than there are shards
    return len(os.sched_getaffinity(0))
