"""How many workers a stage may start; it cannot change a result, so it is no param."""

import os

from tvqrap.errors import UsageError

VARIABLE = "TVQRAP_WORKERS"


def worker_count(*, on_ray: bool = False) -> int:
    """What TVQRAP_WORKERS says; else this machine's cores, or all of the cluster at RAY_ADDRESS.

    Raises `UsageError` where the variable is no positive number.
    """
    given = os.environ.get(VARIABLE)
    if given:
        if not given.isdecimal() or int(given) < 1:
            raise UsageError(f"{VARIABLE} is {given!r}, expected a number of 1 or more")
        return int(given)
    if on_ray and os.environ.get("RAY_ADDRESS"):
        return 1_000_000  # what fits is started, and never more than there are shards
    return len(os.sched_getaffinity(0))
