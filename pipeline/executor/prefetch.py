"""Work done in background threads before its results are asked for."""

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_POLL_SECONDS = 0.2


def prefetch(items: Iterable[T], depth: int) -> Generator[T, None, None]:
    """The items in their order; a thread makes up to `depth` of them before they are asked for.

    An error of the thread is raised here, after the items before it. The thread ends when the
    generator is closed.
    """
    made: queue.Queue[tuple[T] | BaseException | None] = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def put(entry: "tuple[T] | BaseException | None") -> None:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                made.put(entry, timeout=_POLL_SECONDS)
                return

    def fill() -> None:
        try:
            for item in items:
                put((item,))
                if stopped.is_set():
                    return
            put(None)
        except BaseException as error:
            put(error)
        finally:
            if isinstance(items, Generator):
                items.close()  # it may have threads of its own

    thread = threading.Thread(target=fill, daemon=True, name="prefetch")
    thread.start()
    try:
        while (entry := made.get()) is not None:
            if isinstance(entry, BaseException):
                raise entry
            yield entry[0]
    finally:
        stopped.set()
        thread.join()


def in_threads(
    function: Callable[[T], R], items: Iterable[T], threads: int
) -> Generator[R, None, None]:
    """`function` of each item, in the order of the items, computed by several threads.

    Takes up to two items per thread before their results are asked for.
    """
    pending: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > 2 * threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
