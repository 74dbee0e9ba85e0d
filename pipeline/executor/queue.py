"""Tasks that wait for a worker, and what became of the others."""

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from pipeline.executor.outcome import Attempt, Failure, Outcome

R = TypeVar("R")

ATTEMPTS = 2
"""A task that fails as often as this has failed."""


class Queue(Generic[R]):
    """Indices still to run, attempts made and failures so far."""

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
        """Hand on a result; put a failed task at the end of the queue once, then record it."""
        if outcome.fatal is not None:
            raise outcome.fatal
        self._tell(index, outcome)
        if outcome.failure is None:
            self._on_result(index, outcome.result)  # type: ignore[arg-type]  # R may be None
            return
        self._attempts[index] += 1
        if self._attempts[index] < ATTEMPTS:
            self.waiting.append(index)
        else:
            self.failures.append(Failure(index, *outcome.failure))

    def put_back(self, index: int, outcome: Outcome[R]) -> None:
        """Put a task at the end of the queue that failed by no fault of its own."""
        self._tell(index, outcome)
        self.waiting.append(index)

    def _tell(self, index: int, outcome: Outcome[R]) -> None:
        who = (outcome.host, outcome.pid, round(outcome.seconds, 3))
        error, trace = outcome.failure or (None, "")
        self._on_attempt(Attempt(index, self._attempts[index] + 1, *who, error, trace))
