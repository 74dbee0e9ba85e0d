"""Factories of workers, in a module that every worker process can import by name."""

import os
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
