"""Runs tasks in processes of this machine."""

import contextlib
import multiprocessing
import os
import socket
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

from pipeline.executor.code_digest import code_digest
from pipeline.executor.outcome import Outcome
from pipeline.executor.queue import Place, TaskQueue, hung, say_dropped, tasks_each
from pipeline.executor.worker import Worker

T = TypeVar("T")
R = TypeVar("R")

_CHECK_SECONDS = 10.0
"""How often a run looks for tasks that hang."""


def run_in_processes(
    worker: Callable[[], Callable[[T], R]],
    tasks: Sequence[T],
    queue: TaskQueue[R],
    workers: int,
    in_flight: int,
) -> None:
    """Empties the queue with up to `workers` processes, each with up to `in_flight` tasks.

    A process that dies or hangs is replaced. Raises the reason of the first where none passes its
    checks.
    """
    pool = _Pool(worker, tasks, queue, workers, in_flight)
    try:
        pool.run()
    finally:
        pool.stop()


@dataclass
class _Process:
    """A worker process and the tasks that it has in hand."""

    process: BaseProcess
    pipe: Connection
    begun: dict[int, float] = field(default_factory=dict)
    """Start of each task, by index."""
    reason: BaseException | None = None
    """Why it cannot be used."""

    @property
    def place(self) -> Place:
        return Place(socket.gethostname(), self.process.pid or 0)


class _Pool(Generic[T, R]):
    """The processes of one run."""

    def __init__(
        self,
        worker: Callable[[], Callable[[T], R]],
        tasks: Sequence[T],
        queue: TaskQueue[R],
        workers: int,
        in_flight: int,
    ) -> None:
        # Spawned, not forked: a fork copies the locks of threads that torch and OpenCV started.
        self._context = multiprocessing.get_context("spawn")
        self._worker = worker
        self._tasks = tasks
        self._queue = queue
        self._workers = workers
        self._in_flight = in_flight
        self._digest = code_digest()
        self._processes: dict[Connection, _Process] = {}
        self._ended: list[BaseProcess] = []

    def run(self) -> None:
        """Starts the processes and settles all tasks."""
        for _ in range(self._workers):
            self._start()
        reason: BaseException | None = None
        # Those without a task stay, since another one may turn out to be unfit.
        while self._queue.waiting or any(each.begun for each in self._processes.values()):
            self._hand_out()
            if not any(each.begun for each in self._processes.values()):
                assert reason is not None
                raise reason
            for pipe in wait(list(self._processes), timeout=_CHECK_SECONDS):
                assert isinstance(pipe, Connection)
                found = self._receive(self._processes[pipe])
                reason = reason or found
            for process in list(self._processes.values()):
                self._check_time(process)
        for process in list(self._processes.values()):
            self._forget(process)
        for ended in self._ended:
            ended.join()

    def stop(self) -> None:
        """Ends all processes."""
        for process in [*self._ended, *(each.process for each in self._processes.values())]:
            if process.is_alive():
                process.terminate()
                process.join()

    def _start(self) -> None:
        driver_end, worker_end = self._context.Pipe()
        process = self._context.Process(
            target=_serve,
            args=(self._worker, self._digest, worker_end, self._in_flight),
            daemon=True,
        )
        self._processes[driver_end] = _Process(process, driver_end)
        process.start()
        worker_end.close()

    def _hand_out(self) -> None:
        """Gives tasks to the processes that have fewest."""
        fit = [each for each in self._processes.values() if each.reason is None]
        places = [process.place for process in fit]
        for number in range(self._in_flight):
            for process in fit:
                left = len(self._queue.waiting) + sum(len(each.begun) for each in fit)
                each = tasks_each(left, len(fit), self._in_flight)
                if number >= each or len(process.begun) > number:
                    continue
                index = self._queue.take(process.begun, process.place, places)
                if index is not None:
                    process.begun[index] = time.monotonic()
                    with contextlib.suppress(BrokenPipeError):  # it died, which a read reports
                        process.pipe.send((index, self._tasks[index]))

    def _receive(self, process: _Process) -> BaseException | None:
        """Settles a task; returns the reason where the process cannot be used."""
        try:
            index, outcome = process.pipe.recv()
        except (EOFError, ConnectionResetError):
            process.process.join()
            error = f"worker died (exit code {process.process.exitcode})"
            place = process.place
            self._lose(process, Outcome(failure=(error, ""), host=place.host, pid=place.pid))
            return None
        del process.begun[index]
        reason = self._queue.settle(index, outcome)
        if reason is not None and process.reason is None:
            process.reason = reason
            say_dropped(process.place, reason)
        return reason

    def _check_time(self, process: _Process) -> None:
        seconds = time.monotonic() - min(process.begun.values(), default=time.monotonic())
        if seconds > self._queue.limit:
            process.process.kill()
            process.process.join()
            self._lose(process, hung(process.place, seconds))

    def _lose(self, process: _Process, outcome: Outcome[R]) -> None:
        """Settles the tasks of a process that is gone, and starts another one if needed."""
        self._forget(process)
        if process.begun:
            self._queue.settle_lost(list(process.begun), outcome)
        if self._queue.waiting:
            self._start()

    def _forget(self, process: _Process) -> None:
        process.pipe.close()
        del self._processes[process.pipe]
        self._ended.append(process.process)


def _serve(
    factory: Callable[[], Callable[[T], R]], digest: str, pipe: Connection, in_flight: int
) -> None:
    """Body of a worker process: runs tasks until the driver closes the pipe or ends."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def exit_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=exit_with_parent, daemon=True).start()
    runner = Worker(factory, digest)
    sending = threading.Lock()

    def run(index: int, task: Any) -> None:
        try:
            outcome = runner.run(task)
            with sending:
                pipe.send((index, outcome))
        except BaseException:  # such as a result that cannot be pickled: the driver waits for it
            traceback.print_exc()
            os._exit(1)

    with contextlib.suppress(EOFError, KeyboardInterrupt), ThreadPoolExecutor(in_flight) as pool:
        while True:
            pool.submit(run, *pipe.recv())
