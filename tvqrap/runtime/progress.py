"""Progress of long work: a bar on a terminal, one line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tvqrap.runtime.text import printable

SECONDS_BETWEEN_LINES = 15.0


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


@contextmanager
def progress(title: str, total: int, unit: str, done: int = 0) -> Iterator[Callable[..., None]]:
    """Shows how much of `total` is done, the rate and the time left, on standard error.

    Yields `advance(count=1, note="", skipped=0)`: `note` is a short text shown beside the numbers
    (losses, say); `skipped` units count as done and not towards the rate. So does `done`, which an
    earlier run finished.
    """
    if sys.stderr.isatty():
        yield from _bar(title, total, unit, done)
    else:
        yield from _lines(title, total, unit, done)


def _bar(title: str, total: int, unit: str, done: int) -> Iterator[Callable[..., None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.progress import TimeRemainingColumn as TimeLeftColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} " + unit, markup=False),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeLeftColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    start = time.monotonic()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=total, completed=done, rate="", note="")
        finished = 0

        def advance(count: int = 1, note: str = "", skipped: int = 0) -> None:
            nonlocal finished
            finished += count
            rate = finished / max(time.monotonic() - start, 1e-9)
            bar.update(task, advance=count + skipped, rate=f"{rate:.2f} {unit}/s")
            if note:
                bar.update(task, note=printable(note))

        yield advance


def _lines(title: str, total: int, unit: str, done: int) -> Iterator[Callable[..., None]]:
    start = last = time.monotonic()
    finished, latest_note = 0, ""

    def line(now: float) -> None:
        elapsed = max(now - start, 1e-9)
        rate = finished / elapsed
        rest = total - done - finished
        left = _clock(rest / rate) if rate else "?" if rest else _clock(0)
        text = f"{title}: {done + finished}/{total} {unit}, {rate:.2f}/s, {left} left"
        print(f"{text}, {latest_note}" if latest_note else text, file=sys.stderr, flush=True)

    def advance(count: int = 1, note: str = "", skipped: int = 0) -> None:
        nonlocal finished, done, last, latest_note
        finished += count
        done += skipped
        latest_note = printable(note) or latest_note
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES:
            last = now
            line(now)

    yield advance
    line(time.monotonic())
