"""Runs tasks on actors of a Ray cluster, whose nodes may come and go."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pipeline.executor.code_digest import code_digest
from pipeline.executor.outcome import Outcome, one_line
from pipeline.executor.queue import ATTEMPTS, TaskQueue
from pipeline.executor.ray_capacity import actors_that_fit, alive_nodes
from pipeline.executor.ray_cluster import ray_cluster
from pipeline.executor.worker import Worker
from tvqrap.runtime.errors import UserError

T = TypeVar("T")
R = TypeVar("R")

NO_WORKER_SECONDS = 120.0
"""A run without a worker waits this long for the cluster to have room for one."""
_CHECK_SECONDS = 10.0
"""How often a run looks for new nodes while no task ends."""


def run_on_ray(
    worker: Callable[[], Callable[[T], R]],
    tasks: Sequence[T],
    queue: TaskQueue[R],
    workers: int,
    cpus: float,
    gpus: float,
) -> None:
    """Empties the queue with up to `workers` actors of `cpus` and `gpus` each.

    Raises `UserError` where no node is large enough for one actor, or where the cluster has no room
    for any during `NO_WORKER_SECONDS`.
    """
    with ray_cluster() as ray:
        nodes = alive_nodes(ray).values()
        if not actors_that_fit(nodes, cpus, gpus):
            found = ", ".join(f"{n.get('CPU', 0):g} and {n.get('GPU', 0):g}" for n in nodes)
            raise UserError(
                f"Ray: no node has {cpus:g} cpus and {gpus:g} gpus, expected at least one; "
                f"found {found}"
            )
        # Ray restarts no actor: one that waits for room again would keep its task meanwhile.
        remote = ray.remote(num_cpus=cpus, num_gpus=gpus, max_restarts=0)(_RayWorker)
        digest = code_digest()
        pool = _Pool(ray, lambda: remote.remote(worker, digest), tasks, queue, workers)
        try:
            while pool.busy or queue.waiting:
                pool.start_actors(actors_that_fit(alive_nodes(ray).values(), cpus, gpus))
                pool.hand_out_tasks()
                pool.collect_outcomes()
                pool.check_has_workers(f"a node with {cpus:g} cpus and {gpus:g} gpus")
        finally:
            pool.kill()


class _RayWorker(Worker[T, R]):
    """The actor, under a name of its own in Ray's lists."""


@dataclass(frozen=True)
class _Run:
    """A task that an actor runs."""

    actor: Any
    index: int
    nodes: frozenset[str]
    """IDs of the nodes that were alive when it began."""


class _Pool(Generic[T, R]):
    """The actors of one run.

    An actor that has not started yet holds no task, so one that never finds room delays nothing.
    """

    def __init__(
        self,
        ray: Any,
        make_actor: Callable[[], Any],
        tasks: Sequence[T],
        queue: TaskQueue[R],
        workers: int,
    ) -> None:
        self.busy: dict[Any, _Run] = {}
        """Running tasks, by the reference to their outcome."""
        self._starting: dict[Any, Any] = {}
        """Actors without an answer yet, by the reference to it."""
        self._idle: list[Any] = []
        self._ray = ray
        self._make_actor = make_actor
        self._tasks = tasks
        self._queue = queue
        self._workers = workers
        self._died_at_start = 0
        self._last_working = time.monotonic()

    def start_actors(self, room: int) -> None:
        """Starts as many actors as the tasks need and a cluster with `room` for so many takes."""
        present = len(self.busy) + len(self._starting) + len(self._idle)
        needed = min(self._workers, room, len(self.busy) + len(self._queue.waiting))
        for _ in range(needed - present):
            actor = self._make_actor()
            self._starting[actor.ready.remote()] = actor

    def hand_out_tasks(self) -> None:
        """Gives each idle actor a task."""
        while self._idle and self._queue.waiting:
            actor, index = self._idle.pop(), self._queue.waiting.popleft()
            reference = actor.run.remote(self._tasks[index])
            self.busy[reference] = _Run(actor, index, frozenset(alive_nodes(self._ray)))

    def collect_outcomes(self) -> None:
        """Waits until something ends, up to `_CHECK_SECONDS`, and settles it."""
        pending = [*self.busy, *self._starting]
        if not pending:
            time.sleep(1)  # every node is gone: another may come
            return
        for reference in self._ray.wait(pending, timeout=_CHECK_SECONDS)[0]:
            error: Exception | None = None
            try:
                outcome = self._ray.get(reference)
            except self._ray.exceptions.RayError as raised:
                error, outcome = raised, Outcome(failure=(one_line(raised), ""))
            if reference in self._starting:
                self._settle_start(self._starting.pop(reference), error)
            else:
                died = isinstance(error, self._ray.exceptions.RayActorError)
                self._settle_task(self.busy.pop(reference), outcome, died)

    def check_has_workers(self, needed: str) -> None:
        """Raises `UserError` where no actor has been up for `NO_WORKER_SECONDS`."""
        if self.busy or self._idle:
            self._last_working = time.monotonic()
        elif time.monotonic() - self._last_working > NO_WORKER_SECONDS:
            raise UserError(
                f"Ray: no worker for {NO_WORKER_SECONDS:.0f} s with {len(self._queue.waiting)} "
                f"tasks left, expected room on {needed}"
            )

    def kill(self) -> None:
        """Ends all actors."""
        running = (run.actor for run in self.busy.values())
        for actor in [*self._starting.values(), *self._idle, *running]:
            self._ray.kill(actor)

    def _settle_start(self, actor: Any, error: Exception | None) -> None:
        if error is None:
            self._idle.append(actor)
            return
        self._died_at_start += 1
        if self._died_at_start > ATTEMPTS * self._workers:
            raise UserError(f"Ray: workers die as they start: {one_line(error)}")

    def _settle_task(self, run: _Run, outcome: Outcome[R], died: bool) -> None:
        if died and run.nodes - alive_nodes(self._ray).keys():
            # A node is gone: the end of the actor says nothing about the task.
            self._queue.put_back(run.index, outcome)
        else:
            self._queue.settle(run.index, outcome)
        if not died:
            self._idle.append(run.actor)
