"""What runs in every process and actor: it does one task after another."""

import os
import socket
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Generic, TypeVar

from pipeline.executor.code_digest import code_digest
from pipeline.executor.outcome import Outcome, one_line
from tvqrap.runtime.errors import UserError

T = TypeVar("T")
R = TypeVar("R")


class Worker(Generic[T, R]):
    """Calls the factory at the first task, and the function it returned for every task.

    Refuses all tasks where it does not run the driver's code. What it runs is settled once, as it
    starts: files that are edited later on change nothing in it.
    """

    def __init__(self, factory: Callable[[], Callable[[T], R]], driver_digest: str) -> None:
        self._factory = factory
        self._function: Callable[[T], R] | None = None
        self._driver_digest = driver_digest
        self._digest = code_digest()

    def ready(self) -> None:
        """Answers once a Ray actor has found its place."""

    def run(self, task: T) -> Outcome[R]:
        if self._digest != self._driver_digest:
            return Outcome(
                fatal=UserError(
                    f"a worker on {socket.gethostname()} imports code {self._digest[:12]}, "
                    f"expected the driver's {self._driver_digest[:12]}"
                )
            )
        try:
            if self._function is None:
                self._function = self._factory()
        except Exception as error:
            # A UserError stays one; others need not survive the way to the driver.
            fatal = error if isinstance(error, UserError) else RuntimeError(traceback.format_exc())
            return Outcome(fatal=fatal)
        begun = time.monotonic()
        try:
            outcome = Outcome(result=self._function(task))
        except Exception as error:
            outcome = Outcome(failure=(one_line(error), traceback.format_exc()))
        seconds = time.monotonic() - begun
        return replace(outcome, host=socket.gethostname(), pid=os.getpid(), seconds=seconds)
