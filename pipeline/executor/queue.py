"""A queue of tasks with a limited number of attempts and a time limit each."""

import logging
import math
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from pipeline.executor.outcome import Attempt, Failure, Outcome, UnfitWorkerError

R = TypeVar("R")

log = logging.getLogger(__name__)

ATTEMPTS = 2
"""Attempts of a task before it counts as failed."""

HUNG_TIMES = 10.0
"""A task hangs that takes this many times as long as the longest finished one ..."""
HUNG_SECONDS = 600.0
"""... and at least this long."""
FIRST_HUNG_SECONDS = 4 * 3600.0
"""While no task has finished, one hangs that takes this long."""


class Place(NamedTuple):
    """Where a worker runs."""

    host: str
    pid: int

    def __str__(self) -> str:
        return f"{self.pid} on {self.host}"


class TaskQueue(Generic[R]):
    """The tasks of a run by index: those that wait, the attempts made and the failures."""

    def __init__(
        self,
        count: int,
        on_result: Callable[[int, R], None],
        on_attempt: Callable[[Attempt], None],
        may_hang: bool = True,
    ) -> None:
        self._may_hang = may_hang
        self.waiting = deque(range(count))
        self.failures: list[Failure] = []
        self._attempts = [0] * count
        self._failed_at: dict[int, Place] = {}
        """The worker that failed a task which waits again."""
        self._on_result = on_result
        self._on_attempt = on_attempt
        self._suspects: set[int] = set()
        """Tasks that a worker had in hand with others when it died or hung. They run alone."""
        self._longest: float | None = None

    @property
    def limit(self) -> float:
        """Seconds after which a task counts as hung."""
        if not self._may_hang:
            return math.inf
        if self._longest is None:
            return FIRST_HUNG_SECONDS
        return max(HUNG_SECONDS, HUNG_TIMES * self._longest)

    def take(self, in_hand: Collection[int], place: Place, places: Sequence[Place]) -> int | None:
        """The next task for the worker at `place` that has some in hand; None where it gets none.

        `places` are those of all workers. A task after which a worker died or hung shares none. One
        that failed goes to another host, or to another worker where there is one host: a worker
        that fails every task, as with a failing GPU, is the first to ask for more.
        """
        if not self._suspects.isdisjoint(in_hand):
            return None
        known = 1 if len({each.host for each in places}) > 1 else 2
        for index in self.waiting:
            failed_here = self._failed_at.get(index, ())[:known] == place[:known]
            if failed_here and len(places) > 1:
                continue
            if not in_hand or index not in self._suspects:
                self.waiting.remove(index)
                return index
        return None

    def settle(self, index: int, outcome: Outcome[R]) -> BaseException | None:
        """Passes a result on, or lets a failed task wait again until its attempts are used up.

        Returns the reason where the worker cannot be used. Its task then waits for another one.
        """
        if outcome.fatal is not None:
            self.waiting.append(index)
            return outcome.fatal
        self._report(index, outcome)
        if outcome.failure is None:
            try:
                self._on_result(index, outcome.result)  # type: ignore[arg-type]  # R may be None
            except UnfitWorkerError as error:
                self.waiting.append(index)
                return error
            self._longest = max(self._longest or 0.0, outcome.seconds)
            return None
        self._attempts[index] += 1
        if self._attempts[index] < ATTEMPTS:
            self._failed_at[index] = Place(outcome.host, outcome.pid)
            self.waiting.append(index)
        else:
            self.failures.append(Failure(index, *outcome.failure))
        return None

    def settle_lost(self, indices: Collection[int], outcome: Outcome[R]) -> None:
        """Settles the tasks that a worker had in hand when it died or hung.

        One alone has failed. Of several it is not known which one is to blame: each runs again,
        alone, and no attempt is counted.
        """
        for index in indices:
            if len(indices) == 1:
                self.settle(index, outcome)
            else:
                self._suspects.add(index)
                self.put_back(index, outcome)

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


def tasks_each(left: int, workers: int, in_flight: int) -> int:
    """How many tasks a worker has at once: up to `in_flight`, fewer where few tasks are `left`."""
    return max(1, min(in_flight, -(-left // max(1, workers))))


def say_dropped(place: Place, reason: BaseException) -> None:
    """Says that a run goes on without a worker, and why."""
    lines = str(reason).strip().splitlines() or [type(reason).__name__]
    log.warning("the run goes on without the worker %s: %s", place, lines[-1])


def hung(place: Place, seconds: float) -> Outcome[Any]:
    """The outcome of a task without a result in its time; says which worker had it."""
    error = f"no result from the worker {place} in {seconds:.0f} s"
    log.warning("%s: it is stopped, another worker tries", error)
    return Outcome(failure=(error, ""), host=place.host, pid=place.pid, seconds=seconds)
