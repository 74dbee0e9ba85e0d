"""Tasks in processes of this machine."""

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
from pipeline.executor.queue import Queue
from pipeline.executor.worker import Worker

T = TypeVar("T")
R = TypeVar("R")


def run_in_processes(
    worker: Callable[[], Callable[[T], R]], tasks: Sequence[T], queue: Queue[R], workers: int
) -> None:
    """Empties the queue with up to `workers` processes; one that dies is replaced."""
    # Spawned, not forked: a fork copies the locks of the threads that torch and OpenCV started.
    context = multiprocessing.get_context("spawn")
    digest = code_digest()
    processes: list[BaseProcess] = []
    busy: dict[Connection, tuple[BaseProcess, int]] = {}

    def start() -> tuple[BaseProcess, Connection]:
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(worker, digest, theirs), daemon=True)
        processes.append(process)
        process.start()
        theirs.close()
        return process, ours

    def give(process: BaseProcess, pipe: Connection, index: int) -> None:
        busy[pipe] = (process, index)
        with contextlib.suppress(BrokenPipeError):  # it died: reading from it will tell
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
                    said = f"worker died (exit code {process.exitcode})"
                    outcome = Outcome(
                        failure=(said, ""), host=socket.gethostname(), pid=process.pid or 0
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
    """Body of a worker process: answers tasks until the driver closes the pipe or is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    runner = Worker(factory, digest)
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            pipe.send(runner.run(pipe.recv()))
