"""Background work: its order, its bounds, its errors and its end."""

import threading
import time
from collections.abc import Iterator

import pytest

from pipeline.executor.prefetch import in_threads, prefetch


def test_items_come_in_order_and_are_made_ahead() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(20):
            made.append(number)
            yield number

    stream = prefetch(items(), 3)
    assert next(stream) == 0
    deadline = time.monotonic() + 10
    while len(made) < 5 and time.monotonic() < deadline:  # one taken, three kept, one in hand
        time.sleep(0.01)
    time.sleep(0.05)
    assert made == [0, 1, 2, 3, 4]
    assert list(stream) == list(range(1, 20))


def test_an_error_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ZeroDivisionError("in the thread")

    stream = prefetch(items(), 2)
    assert next(stream) == 1
    with pytest.raises(ZeroDivisionError, match="in the thread"):
        next(stream)


def test_closing_ends_the_thread() -> None:
    before = threading.active_count()
    stream = prefetch(iter(range(10**9)), 2)
    next(stream)
    assert threading.active_count() == before + 1
    stream.close()
    assert threading.active_count() == before


def test_threads_keep_the_order_and_take_few_items_at_a_time() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(12):
            taken.append(number)
            yield number

    def slow_first(number: int) -> int:
        time.sleep(0.05 if number == 0 else 0)
        return number * number

    results = in_threads(slow_first, items(), 2)
    assert next(results) == 0
    assert len(taken) == 5
    assert list(results) == [number * number for number in range(1, 12)]
