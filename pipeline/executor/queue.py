"""A queue of tasks with a limited number of attempts each."""

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from pipeline.executor.outcome import Attempt, Failure, Outcome

R = TypeVar("R")

ATTEMPTS = 2
"""Attempts of a task before it counts as failed."""


class TaskQueue(Generic[R]):
    """The tasks of a run by index: those that wait, the attempts made and the failures."""

    def __init__(
        self,
        count: int,
        on_result: Callable[[int, R], None],
        on_attempt: Callable[[Attempt], None],
    ) -> None:
        self.waiting = deque(range(count))
        self.failures: list[Failure] = []
        self._attempts = [0] * count
        self._on_result = on_result
        self._on_attempt = on_attempt

    def settle(self, index: int, outcome: Outcome[R]) -> None:
        """Passes a result on, or lets a failed task wait again until its attempts are used up."""
        if outcome.fatal is not None:
            raise outcome.fatal
        self._report(index, outcome)
        if outcome.failure is None:
            self._on_result(index, outcome.result)  # type: ignore[arg-type]  # R may be None
            return
        self._attempts[index] += 1
        if self._attempts[index] < ATTEMPTS:
            self.waiting.append(index)
        else:
            self.failures.append(Failure(index, *outcome.failure))

    def put_back(self, index: int, outcome: Outcome[R]) -> None:
        """Puts back a task whose node failed, without counting the attempt."""
        self._report(index, outcome)
        self.waiting.append(index)

    def _report(self, index: int, outcome: Outcome[R]) -> None:
        error, trace = outcome.failure or (None, "")
        self._on_attempt(
            Attempt(
                index=index,
                number=self._attempts[index] + 1,
                host=outcome.host,
                pid=outcome.pid,
                seconds=round(outcome.seconds, 3),
                error=error,
                traceback=trace,
            )
        )
