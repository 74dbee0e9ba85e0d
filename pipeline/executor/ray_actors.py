"""Runs tasks on actors of a Ray cluster, whose nodes may come and go."""

import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from pipeline.executor.code_digest import code_digest
from pipeline.executor.outcome import OtherMachineError, Outcome
from pipeline.executor.queue import ATTEMPTS, Place, TaskQueue, hung, say_dropped, tasks_each
from pipeline.executor.ray_capacity import actors_that_fit, alive_nodes
from pipeline.executor.ray_cluster import ray_cluster
from pipeline.executor.worker import Worker
from tvqrap.runtime.errors import UserError, one_line

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
    in_flight: int,
) -> None:
    """Empties the queue with up to `workers` actors of `cpus` and `gpus`, each with up to
    `in_flight` tasks.

    Raises `UserError` where no node is large enough for one actor, or where the cluster has no room
    for any during `NO_WORKER_SECONDS`. Raises the reason of the first actor that cannot be used
    where none is left.
    """
    with ray_cluster() as ray:
        nodes = alive_nodes(ray).values()
        if not actors_that_fit(nodes, cpus, gpus):
            found = ", ".join(f"{n.get('CPU', 0):g} and {n.get('GPU', 0):g}" for n in nodes)
            raise UserError(
                f"Ray: no node has {cpus:g} cpus and {gpus:g} gpus, expected at least one; "
                f"found {found}"
            )
        # Ray restarts no actor: one that waits for room again would keep its tasks meanwhile.
        remote = ray.remote(
            num_cpus=cpus, num_gpus=gpus, max_restarts=0, max_concurrency=in_flight
        )(_RayWorker)
        digest = code_digest()
        pool = _Pool(ray, lambda: remote.remote(worker, digest), tasks, queue, workers, in_flight)
        try:
            while pool.busy or queue.waiting:
                pool.start_actors(actors_that_fit(alive_nodes(ray).values(), cpus, gpus))
                pool.hand_out_tasks()
                pool.collect_outcomes()
                pool.stop_hung_actors()
                pool.check_has_workers(f"a node with {cpus:g} cpus and {gpus:g} gpus")
        finally:
            pool.kill()


class _RayWorker(Worker[T, R]):
    """The actor, under a name of its own in Ray's lists."""

    def ready(self) -> tuple[Place, str]:
        """(place, ID of the node), once the actor runs."""
        import ray

        place = Place(socket.gethostname(), os.getpid())
        return place, ray.get_runtime_context().get_node_id()


@dataclass(eq=False)
class _Actor:
    """An actor and the tasks that it has in hand."""

    handle: Any
    place: Place = Place("", 0)  # noqa: RUF009  # immutable
    node: str = ""
    begun: dict[int, float] = field(default_factory=dict)
    """Start of each task, by index."""


class _Pool(Generic[T, R]):
    """The actors of one run.

    An actor that has not started yet holds no task, so one that never finds room delays nothing.
    One that cannot be used stays until the end: Ray would put the next one in its place.
    """

    def __init__(
        self,
        ray: Any,
        make_actor: Callable[[], Any],
        tasks: Sequence[T],
        queue: TaskQueue[R],
        workers: int,
        in_flight: int,
    ) -> None:
        self.busy: dict[Any, tuple[_Actor, int]] = {}
        """Actor and index of each running task, by the reference to its outcome."""
        self._starting: dict[Any, _Actor] = {}
        """Actors without an answer yet, by the reference to it."""
        self._fit: list[_Actor] = []
        self._unfit: list[_Actor] = []
        self._reason: BaseException | None = None
        """Why the first of them cannot be used."""
        self._room = 0
        self._ray = ray
        self._make_actor = make_actor
        self._tasks = tasks
        self._queue = queue
        self._workers = workers
        self._in_flight = in_flight
        self._died_at_start = 0
        """Actors that died as they started, since one last did start."""
        self._last_working = time.monotonic()

    def start_actors(self, room: int) -> None:
        """Starts as many actors as the tasks need and a cluster with `room` for so many takes."""
        alive = alive_nodes(self._ray)
        self._unfit = [actor for actor in self._unfit if actor.node in alive]
        self._room = room - len(self._unfit)
        needed = min(self._workers, self._room, len(self.busy) + len(self._queue.waiting))
        for _ in range(needed - len(self._starting) - len(self._fit)):
            actor = _Actor(self._make_actor())
            self._starting[actor.handle.ready.remote()] = actor

    def hand_out_tasks(self) -> None:
        """Gives tasks to the actors that have fewest."""
        left = len(self._queue.waiting) + sum(len(actor.begun) for actor in self._fit)
        expected = len(self._fit) + len(self._starting)
        places = [actor.place for actor in self._fit]
        for number in range(tasks_each(left, expected, self._in_flight)):
            for actor in self._fit:
                if len(actor.begun) > number:
                    continue
                index = self._queue.take(actor.begun, actor.place, places)
                if index is not None:
                    reference = actor.handle.run.remote(self._tasks[index])
                    actor.begun[index] = time.monotonic()
                    self.busy[reference] = actor, index

    def collect_outcomes(self) -> None:
        """Waits until something ends, up to `_CHECK_SECONDS`, and settles it."""
        pending = [*self.busy, *self._starting]
        if not pending:
            time.sleep(1)  # every node is gone: another may come
            return
        for reference in self._ray.wait(pending, timeout=_CHECK_SECONDS)[0]:
            error: Exception | None = None
            try:
                found = self._ray.get(reference)
            except self._ray.exceptions.RayError as raised:
                error, found = raised, Outcome(failure=(one_line(raised), ""))
            if reference in self._starting:
                self._settle_start(self._starting.pop(reference), found, error)
            elif reference not in self.busy:
                continue  # its actor died with another task
            elif isinstance(error, self._ray.exceptions.RayActorError):
                self._settle_death(self.busy[reference][0], found)
            else:
                self._settle_task(*self.busy.pop(reference), found)

    def stop_hung_actors(self) -> None:
        """Kills actors whose tasks have no result in the time limit."""
        now = time.monotonic()
        for actor in [*self._fit, *self._unfit]:
            seconds = now - min(actor.begun.values(), default=now)
            if seconds > self._queue.limit:
                self._ray.kill(actor.handle)
                self._lose(actor, hung(actor.place, seconds))

    def check_has_workers(self, needed: str) -> None:
        """Raises where no actor is fit, or where none has been up for `NO_WORKER_SECONDS`."""
        if self._fit or self.busy:
            self._last_working = time.monotonic()
        elif self._reason is not None and not self._starting:
            # A fault of all workers is not tried out on each node of a large cluster, but each may
            # be the machine that is wanted.
            fault = not isinstance(self._reason, OtherMachineError)
            if self._room <= 0 or (fault and len(self._unfit) >= ATTEMPTS * self._workers):
                raise self._reason
        elif time.monotonic() - self._last_working > NO_WORKER_SECONDS:
            raise UserError(
                f"Ray: no worker for {NO_WORKER_SECONDS:.0f} s with {len(self._queue.waiting)} "
                f"tasks left, expected room on {needed}"
            )

    def kill(self) -> None:
        """Ends all actors."""
        for actor in [*self._starting.values(), *self._fit, *self._unfit]:
            self._ray.kill(actor.handle)

    def _settle_start(
        self, actor: _Actor, found: tuple[Place, str], error: Exception | None
    ) -> None:
        if error is None:
            actor.place, actor.node = found
            self._fit.append(actor)
            self._died_at_start = 0
            return
        self._died_at_start += 1
        most = ATTEMPTS * max(1, min(self._workers, self._room))
        if self._died_at_start > most and not self._fit:  # one odd node ends no run
            raise UserError(f"Ray: workers die as they start: {one_line(error)}")

    def _settle_task(self, actor: _Actor, index: int, outcome: Outcome[R]) -> None:
        del actor.begun[index]
        reason = self._queue.settle(index, outcome)
        if reason is not None and actor in self._fit:
            self._fit.remove(actor)
            self._unfit.append(actor)
            self._reason = self._reason or reason
            say_dropped(actor.place, reason)

    def _settle_death(self, actor: _Actor, outcome: Outcome[R]) -> None:
        outcome = replace(outcome, host=actor.place.host, pid=actor.place.pid)
        if actor.node not in alive_nodes(self._ray):
            # The node is gone: the end of the actor says nothing about its tasks.
            for index in actor.begun:
                self._queue.put_back(index, outcome)
            actor.begun.clear()
        self._lose(actor, outcome)

    def _lose(self, actor: _Actor, outcome: Outcome[R]) -> None:
        """Settles the tasks of an actor that is gone."""
        for group in (self._fit, self._unfit):
            if actor in group:
                group.remove(actor)
        self.busy = {
            reference: (other, index)
            for reference, (other, index) in self.busy.items()
            if other is not actor
        }
        if actor.begun:
            self._queue.settle_lost(list(actor.begun), outcome)
