"""The worker of a process or actor, which runs one task after another."""

import os
import socket
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Generic, TypeVar

from pipeline.executor.code_digest import code_digest
from pipeline.executor.outcome import Outcome, UnfitWorkerError
from tvqrap.runtime.errors import UserError, one_line

T = TypeVar("T")
R = TypeVar("R")


class Worker(Generic[T, R]):
    """Calls the factory at the first task, then applies the function it returned to every task.

    Refuses all tasks where its code is not the driver's. The digest is computed at its start, so
    that later edits of files change nothing. Several threads may run tasks at once.
    """

    def __init__(self, factory: Callable[[], Callable[[T], R]], driver_digest: str) -> None:
        self._factory = factory
        self._function: Callable[[T], R] | None = None
        self._making = threading.Lock()
        self._driver_digest = driver_digest
        self._digest = code_digest()

    def run(self, task: T) -> Outcome[R]:
        """Runs a task; errors of the task and of the factory are part of the outcome.

        An `UnfitWorkerError` of the task is one of the worker, as are those of the factory.
        """
        if self._digest != self._driver_digest:
            return Outcome(
                fatal=UserError(
                    f"a worker on {socket.gethostname()} imports code {self._digest[:12]}, "
                    f"expected the driver's {self._driver_digest[:12]}"
                )
            )
        try:
            with self._making:
                if self._function is None:
                    self._function = self._factory()
                function = self._function
        except Exception as error:
            return Outcome(fatal=_fatal(error))
        begun = time.monotonic()
        try:
            outcome = Outcome(result=function(task))
        except UnfitWorkerError as error:
            return Outcome(fatal=error)
        except Exception as error:
            outcome = Outcome(failure=(one_line(error), traceback.format_exc()))
        seconds = time.monotonic() - begun
        return replace(outcome, host=socket.gethostname(), pid=os.getpid(), seconds=seconds)


def _fatal(error: Exception) -> Exception:
    """An error of the factory as one that the driver can raise; others may not be picklable."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, OSError) and error.strerror:  # of a full disk, of a file that is gone
        where = f"{error.filename}: " if error.filename else ""
        return UserError(
            f"a worker on {socket.gethostname()} cannot begin: {where}{error.strerror}"
        )
    return RuntimeError(traceback.format_exc())
