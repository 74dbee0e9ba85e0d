"""Where a stage's tasks run, and on how many workers; it cannot change a result: no param."""

import os
from dataclasses import dataclass
from typing import get_args

from pipeline.executor.run import ExecutorKind
from tvqrap.runtime.errors import UsageError

EXECUTOR = "TVQRAP_EXECUTOR"
WORKERS = "TVQRAP_WORKERS"


@dataclass(frozen=True)
class Executor:
    """Where tasks run, and how many workers there are at most."""

    kind: ExecutorKind
    count: int


def chosen_executor(usual: ExecutorKind) -> Executor:
    """What TVQRAP_EXECUTOR (serial, processes or ray) says, else the stage's usual executor.

    Raises `UsageError` where it, or TVQRAP_WORKERS, says something else.
    """
    given = os.environ.get(EXECUTOR) or usual
    kinds: tuple[ExecutorKind, ...] = get_args(ExecutorKind)
    for kind in kinds:
        if given == kind:
            return Executor(kind, worker_count(on_ray=kind == "ray"))
    raise UsageError(f"{EXECUTOR} is {given!r}, expected one of {', '.join(kinds)}")


def worker_count(*, on_ray: bool = False) -> int:
    """What TVQRAP_WORKERS says; else this machine's cores, or all of the cluster at RAY_ADDRESS.

    Raises `UsageError` where the variable is no positive number.
    """
    given = os.environ.get(WORKERS)
    if given:
        if not given.isdecimal() or int(given) < 1:
            raise UsageError(f"{WORKERS} is {given!r}, expected a number of 1 or more")
        return int(given)
    if on_ray and os.environ.get("RAY_ADDRESS"):
        return 1_000_000  # what fits is started, and never more than there are shards
    return len(os.sched_getaffinity(0))
