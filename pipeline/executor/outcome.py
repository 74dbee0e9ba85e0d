"""What becomes of a task: one attempt, and all of them."""

from dataclasses import dataclass
from typing import Generic, TypeVar

R = TypeVar("R")


@dataclass(frozen=True)
class Failure:
    """A task that failed twice."""

    index: int
    """Its place in the tasks."""
    error: str
    """The last error in one line."""
    traceback: str
    """Empty where the worker died without one."""


@dataclass(frozen=True)
class Attempt:
    """One try of a task, as a log tells of it."""

    index: int
    """Its place in the tasks."""
    number: int
    """1 for the first. One that went with its node counts like the one after it."""
    host: str
    """Empty, as `pid` is 0 and `seconds` are, where the worker could not tell any more."""
    pid: int
    seconds: float
    error: str | None = None
    """In one line; none where it succeeded."""
    traceback: str = ""


@dataclass(frozen=True)
class Outcome(Generic[R]):
    """What one attempt came to: a result, a failure, or a worker that cannot be set up."""

    result: R | None = None
    failure: tuple[str, str] | None = None
    fatal: BaseException | None = None
    host: str = ""
    pid: int = 0
    seconds: float = 0.0


def one_line(error: BaseException) -> str:
    """The kind of an error and the first line of what it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
