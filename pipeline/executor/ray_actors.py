"""Tasks on actors of a Ray cluster, whose nodes may come and go."""

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pipeline.executor.code_digest import code_digest
from pipeline.executor.outcome import Outcome, one_line
from pipeline.executor.queue import ATTEMPTS, Queue
from pipeline.executor.ray_capacity import actors_that_fit, alive_nodes
from pipeline.executor.ray_cluster import ray_cluster
from pipeline.executor.worker import Worker
from tvqrap.runtime.errors import UserError

T = TypeVar("T")
R = TypeVar("R")

NO_WORKER_SECONDS = 120.0
"""A run whose last worker is gone waits this long for a cluster to make room again."""
_RELEASE_SECONDS = 5.0
_CHECK_SECONDS = 10.0


def run_on_ray(
    worker: Callable[[], Callable[[T], R]],
    tasks: Sequence[T],
    queue: Queue[R],
    workers: int,
    cpus: float,
    gpus: float,
) -> None:
    """Empties the queue with up to `workers` actors, on the nodes that are there."""
    with ray_cluster() as ray:
        fitting = actors_that_fit(ray, workers, 0, cpus, gpus, _RELEASE_SECONDS)
        if fitting == 0:
            raise UserError(
                f"Ray: no node has {cpus:g} cpus and {gpus:g} gpus free, expected at least one; "
                f"found {ray.available_resources()}"
            )
        # Ray restarts nothing: an actor that waits for room again would keep its task with it.
        remote = ray.remote(num_cpus=cpus, num_gpus=gpus, max_restarts=0)(_RayWorker)
        digest = code_digest()
        # Actors that are not up yet hold no task: what never finds room delays nothing.
        starting: dict[Any, Any] = {}
        busy: dict[Any, tuple[Any, int, frozenset[str]]] = {}
        idle: list[Any] = []
        lost_at_start = 0
        last_working = time.monotonic()

        def start(count: int) -> None:
            for _ in range(count):
                actor = remote.remote(worker, digest)
                starting[actor.ready.remote()] = actor

        try:
            start(fitting)
            while busy or queue.waiting:
                while idle and queue.waiting:
                    actor, index = idle.pop(), queue.waiting.popleft()
                    busy[actor.run.remote(tasks[index])] = (actor, index, alive_nodes(ray))
                died = False
                pending = [*busy, *starting]
                if not pending:
                    time.sleep(1)  # every node is gone: another may come
                for reference in ray.wait(pending, timeout=_CHECK_SECONDS)[0] if pending else []:
                    try:
                        outcome = ray.get(reference)
                    except ray.exceptions.RayError as error:
                        actor_lost = isinstance(error, ray.exceptions.RayActorError)
                        outcome = Outcome(failure=(one_line(error), ""))
                        died = died or actor_lost
                    else:
                        actor_lost = False
                    if reference in starting:
                        actor = starting.pop(reference)
                        lost_at_start += actor_lost
                        if lost_at_start > ATTEMPTS * workers:
                            raise UserError(f"Ray: workers die as they start: {outcome.failure}")
                    else:
                        actor, index, nodes = busy.pop(reference)
                        if actor_lost and nodes - alive_nodes(ray):
                            queue.put_back(index, outcome)  # its end says nothing of the task
                        else:
                            queue.settle(index, outcome)
                    if not actor_lost:
                        idle.append(actor)
                if busy or idle:
                    last_working = time.monotonic()
                elif time.monotonic() - last_working > NO_WORKER_SECONDS:
                    raise UserError(
                        f"Ray: no worker for {NO_WORKER_SECONDS:.0f} s with {len(queue.waiting)} "
                        f"tasks left, expected a node with {cpus:g} cpus and {gpus:g} gpus"
                    )
                held = len(busy) + len(starting) + len(idle)
                wanted = min(workers, len(busy) + len(queue.waiting)) - held
                if wanted > 0:
                    patience = _RELEASE_SECONDS if died else 0
                    start(actors_that_fit(ray, wanted, held, cpus, gpus, patience))
        finally:
            for actor in [*starting.values(), *idle, *(entry[0] for entry in busy.values())]:
                ray.kill(actor)


class _RayWorker(Worker[T, R]):
    """The actor, under a name of its own in Ray's lists."""
