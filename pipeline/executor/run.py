"""Runs independent tasks with one of three executors."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

from pipeline.executor.code_digest import code_digest
from pipeline.executor.outcome import Attempt, Failure
from pipeline.executor.processes import run_in_processes
from pipeline.executor.queue import TaskQueue
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
    in_flight: int = 1,
    may_hang: bool = True,
) -> list[Failure]:
    """Runs every task and calls `on_result(index, result)` as each result arrives, in any order.

    `worker` is a factory that is called once in each process or actor, where it loads the model. It
    returns the function that is applied to each task. Factory, tasks and results must be
    picklable. A task that raises, whose worker dies, or that hangs (`TaskQueue.limit`), is tried
    once more, with another worker where there is one. After the second time it is a `Failure`, and
    the other tasks go on. A worker whose factory raises, whose function raises `UnfitWorkerError`,
    or whose result makes `on_result` raise it, is named in a warning and gets no more tasks. The
    first such error ends the run where no worker is left, and any other error of `on_result` at
    once.
    Returns the failures in the order of the tasks. `on_attempt` is called after every attempt.
    Without `may_hang`, tasks take as long as they need: they watch themselves.

    Each worker has up to `in_flight` tasks at once, in threads: one can read while another
    computes. The serial executor has one.

    "serial" runs the tasks in this process. "processes" starts up to `workers` new processes. "ray"
    starts up to `workers` actors of `cpus` and `gpus` each, no more than the cluster's nodes have
    room for: on the cluster at RAY_ADDRESS, else on a local one for this run. Nodes may come and
    go: a task whose node is gone runs again without counting as tried. Raises `UserError` where no
    node is large enough for one actor, or where the cluster has no room for one for
    `NO_WORKER_SECONDS`.
    """
    if workers < 1:
        raise ValueError(f"found {workers} workers, expected at least 1")
    queue: TaskQueue[R] = TaskQueue(len(tasks), on_result, on_attempt, may_hang)
    if tasks:
        workers = min(workers, len(tasks))
        if executor == "serial":
            _run_serially(worker, tasks, queue)
        elif executor == "processes":
            run_in_processes(worker, tasks, queue, workers, in_flight)
        else:
            run_on_ray(worker, tasks, queue, workers, cpus, gpus, in_flight)
    return sorted(queue.failures, key=lambda failure: failure.index)


def _run_serially(
    worker: Callable[[], Callable[[T], R]], tasks: Sequence[T], queue: TaskQueue[R]
) -> None:
    runner = Worker(worker, code_digest())
    while queue.waiting:
        index = queue.waiting.popleft()
        reason = queue.settle(index, runner.run(tasks[index]))
        if reason is not None:
            raise reason


def connected(executor: ExecutorKind) -> contextlib.AbstractContextManager[Any]:
    """Keeps one Ray cluster for all runs within the block; other executors share nothing."""
    return ray_cluster() if executor == "ray" else contextlib.nullcontext()
