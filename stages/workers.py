"""Where a stage's tasks run, and on how many workers; it cannot change a result: no param."""

import os
from dataclasses import dataclass
from typing import get_args

from pipeline.executor.run import Place
from tvqrap.errors import UsageError

PLACE = "TVQRAP_PLACE"
WORKERS = "TVQRAP_WORKERS"


@dataclass(frozen=True)
class Workforce:
    """Where tasks run, and how many workers there are at most."""

    place: Place
    count: int


def workforce(usual: Place) -> Workforce:
    """What TVQRAP_PLACE (here, processes or ray) says, else the stage's usual place.

    Raises `UsageError` where it, or TVQRAP_WORKERS, says something else.
    """
    given = os.environ.get(PLACE) or usual
    places: tuple[Place, ...] = get_args(Place)
    for place in places:
        if given == place:
            return Workforce(place, worker_count(on_ray=place == "ray"))
    raise UsageError(f"{PLACE} is {given!r}, expected one of {', '.join(places)}")


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
