"""Attempts of tasks, their outcomes and the failures that are left."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from tvqrap.runtime.errors import UserError

R = TypeVar("R")


class UnfitWorkerError(UserError):
    """A worker that cannot be used, such as one of another machine or without the storage."""


class OtherMachineError(UnfitWorkerError):
    """A worker of another kind of machine than that which made the finished shards."""


@dataclass(frozen=True)
class Failure:
    """A task that failed twice."""

    index: int
    """Position of the task among all tasks."""
    error: str
    """The last error in one line."""
    traceback: str
    """Empty where the worker died without one."""


@dataclass(frozen=True)
class Attempt:
    """One attempt of a task, as a log records it."""

    index: int
    """Position of the task among all tasks."""
    number: int
    """1 for the first. An attempt that ended with its node and the next one share a number."""
    host: str
    pid: int
    seconds: float
    """0 where the worker died."""
    error: str | None = None
    """In one line; none where the attempt succeeded."""
    traceback: str = ""


@dataclass(frozen=True)
class Outcome(Generic[R]):
    """The outcome of one attempt: a result, a failure or an error that ends the run."""

    result: R | None = None
    failure: tuple[str, str] | None = None
    """The error in one line, and its traceback."""
    fatal: BaseException | None = None
    """The worker could not be set up: no other task would succeed."""
    host: str = ""
    pid: int = 0
    seconds: float = 0.0
