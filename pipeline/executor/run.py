"""Running tasks: the one way in, whatever the place."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

from pipeline.executor.code_digest import code_digest
from pipeline.executor.outcome import Attempt, Failure
from pipeline.executor.processes import run_in_processes
from pipeline.executor.queue import Queue
from pipeline.executor.ray_actors import run_on_ray
from pipeline.executor.ray_cluster import ray_cluster
from pipeline.executor.worker import Worker

ExecutorKind = Literal["serial", "processes", "ray"]
T = TypeVar("T")
R = TypeVar("R")


def run_tasks(
    worker: Callable[[], Callable[[T], R]],
    tasks: Sequence[T],
    *,
    executor: ExecutorKind,
    workers: int,
    on_result: Callable[[int, R], None],
    on_attempt: Callable[[Attempt], None] = lambda attempt: None,
    cpus: float = 1,
    gpus: float = 0,
) -> list[Failure]:
    """Run every task; hand each result to `on_result(index, result)` as it arrives, in any order.

    `worker` is a factory called once in each process or actor (there it loads the model); it
    returns the function that is applied to one task after another. Factory, tasks and results must
    be picklable. A task that raises, or whose worker dies, is tried once more; the second time it
    becomes a Failure and the others go on. An error of the factory, or of `on_result`, ends the
    run. Failures come back in the order of the tasks. `on_attempt` hears of every try.

    "processes" starts up to `workers` fresh processes. "ray" starts up to `workers` actors of
    `cpus` and `gpus` each, never more than fit the cluster: the one at RAY_ADDRESS, else a local
    one for this run. Nodes may come and go: a task whose node is gone is run elsewhere, without
    counting as tried. UserError where not even one actor fits, or none for `NO_WORKER_SECONDS`.
    """
    if workers < 1:
        raise ValueError(f"found {workers} workers, expected at least 1")
    queue: Queue[R] = Queue(len(tasks), on_result, on_attempt)
    if tasks:
        workers = min(workers, len(tasks))
        if executor == "serial":
            _run_here(worker, tasks, queue)
        elif executor == "processes":
            run_in_processes(worker, tasks, queue, workers)
        else:
            run_on_ray(worker, tasks, queue, workers, cpus, gpus)
    return sorted(queue.failures, key=lambda failure: failure.index)


def _run_here(worker: Callable[[], Callable[[T], R]], tasks: Sequence[T], queue: Queue[R]) -> None:
    runner = Worker(worker, code_digest())
    while queue.waiting:
        index = queue.waiting.popleft()
        queue.settle(index, runner.run(tasks[index]))


def connected(executor: ExecutorKind) -> contextlib.AbstractContextManager[Any]:
    """What several runs at a place share while the block runs: on Ray, one cluster."""
    return ray_cluster() if executor == "ray" else contextlib.nullcontext()
