"""Factories of workers, in a module that every worker process can import by name."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tvqrap.runtime.errors import UserError


def squarer(log: Path) -> Callable[[int], int]:
    """Squares numbers; 3 raises always, 4 the first time, 5 kills its process always, 6 once."""
    with (log / f"setup{os.getpid()}").open("a") as file:
        file.write("once\n")

    def first_time(name: str) -> bool:
        fresh = not (log / name).exists()
        (log / name).touch()
        return fresh

    def square(number: int) -> int:
        if number == 3 or (number == 4 and first_time("four")):
            raise ValueError(f"found {number}\nand more")
        if number == 5 or (number == 6 and first_time("six")):
            os._exit(7)
        return number * number

    return square


def broken() -> Callable[[int], int]:
    """A factory that the user can mend."""
    raise UserError("models/none: not found")


def crashing() -> Callable[[int], int]:
    """A factory with a fault."""
    raise ZeroDivisionError("in the factory")


def first_is_odd(log: Path) -> Callable[[int], int]:
    """The first process does not see the storage of the driver."""
    try:
        (log / "odd").touch(exist_ok=False)
    except FileExistsError:
        return squarer(log)
    raise UserError("odd does not see the driver's storage")


def failing_at_work(log: Path, error: type[Exception]) -> Callable[[int], int]:
    """Squares numbers, slowly; the first process passes its checks, and then fails every task."""
    try:
        (log / "failing").touch(exist_ok=False)
    except FileExistsError:
        return lambda number: (time.sleep(0.05), number * number)[1]

    def fail(number: int) -> int:
        raise error("stale disk")

    return fail


def told_apart() -> Callable[[int], tuple[int, int]]:
    """Squares numbers, and says in which process."""
    return lambda number: (number * number, os.getpid())


def in_pairs() -> Callable[[int], int]:
    """Squares numbers, two at once in one process: one alone waits until it fails."""
    together = threading.Barrier(2)

    def square(number: int) -> int:
        together.wait(60)
        return number * number

    return square


def hanging(log: Path) -> Callable[[int], int]:
    """Squares numbers; 8 hangs the first time, 9 always."""

    def square(number: int) -> int:
        fresh = not (log / f"hung{number}").exists()
        (log / f"hung{number}").touch()
        if number == 9 or (number == 8 and fresh):
            time.sleep(3600)
        return number * number

    return square
