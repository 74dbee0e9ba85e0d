"""Runs tasks in processes of this machine."""

import contextlib
import multiprocessing
import os
import socket
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TypeVar

from pipeline.executor.code_digest import code_digest
from pipeline.executor.outcome import Outcome
from pipeline.executor.queue import TaskQueue
from pipeline.executor.worker import Worker

T = TypeVar("T")
R = TypeVar("R")


def run_in_processes(
    worker: Callable[[], Callable[[T], R]], tasks: Sequence[T], queue: TaskQueue[R], workers: int
) -> None:
    """Empties the queue with up to `workers` processes; one that dies is replaced."""
    # Spawned, not forked: a fork copies the locks of the threads that torch and OpenCV started.
    context = multiprocessing.get_context("spawn")
    digest = code_digest()
    processes: list[BaseProcess] = []
    busy: dict[Connection, tuple[BaseProcess, int]] = {}

    def start() -> tuple[BaseProcess, Connection]:
        driver_end, worker_end = context.Pipe()
        process = context.Process(target=_serve, args=(worker, digest, worker_end), daemon=True)
        processes.append(process)
        process.start()
        worker_end.close()
        return process, driver_end

    def give(process: BaseProcess, pipe: Connection, index: int) -> None:
        busy[pipe] = (process, index)
        with contextlib.suppress(BrokenPipeError):  # it died, which the next read reports
            pipe.send(tasks[index])

    try:
        for _ in range(workers):
            give(*start(), queue.waiting.popleft())
        while busy:
            for pipe in wait(list(busy)):
                assert isinstance(pipe, Connection)
                process, index = busy.pop(pipe)
                died = False
                try:
                    outcome = pipe.recv()
                except (EOFError, ConnectionResetError):
                    died = True
                    process.join()
                    error = f"worker died (exit code {process.exitcode})"
                    outcome = Outcome(
                        failure=(error, ""), host=socket.gethostname(), pid=process.pid or 0
                    )
                queue.settle(index, outcome)
                if not queue.waiting:
                    pipe.close()
                elif died:
                    give(*start(), queue.waiting.popleft())
                else:
                    give(process, pipe, queue.waiting.popleft())
        for process in processes:
            process.join()
    finally:
        for process in processes:
            if process.is_alive():
                process.terminate()
                process.join()


def _serve(factory: Callable[[], Callable[[T], R]], digest: str, pipe: Connection) -> None:
    """Body of a worker process: runs tasks until the driver closes the pipe or ends."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def exit_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=exit_with_parent, daemon=True).start()
    runner = Worker(factory, digest)
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            pipe.send(runner.run(pipe.recv()))
