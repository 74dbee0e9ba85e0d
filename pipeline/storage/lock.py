"""A lock on a file that one process at a time holds; the file names the holder."""

import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO

from tvqrap.runtime.errors import UserError

_POLL_SECONDS = 0.1

Check = Callable[[], None]
"""Raises `UserError` where this process no longer holds the lock or lease."""


@contextmanager
def file_lock(lock: Path, what: str, *, patience: float = 0.0) -> Iterator[Check]:
    """Holds a lock file while the block runs; the lock ends with its process in any case.

    Waits up to `patience` seconds for another holder. Raises `UserError` that says that `what` is
    already running and names the process, or where the file system has no locks. Yields a check
    that raises `UserError` where the lock file is gone, as on a disk that is no longer mounted.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a+") as file:
        deadline = time.monotonic() + patience
        while not _taken(file, lock):
            if time.monotonic() >= deadline:
                raise already_running(what, holder(lock))
            time.sleep(_POLL_SECONDS)
        file.truncate(0)
        file.write(this_process())
        file.flush()
        try:
            yield partial(_check_there, lock, file, what)
        finally:
            # The file stays: a waiting process has it open and would lock a removed file.
            with suppress(OSError):  # of a disk that is gone
                file.truncate(0)


def holder(lock: Path) -> str:
    """The process that holds a lock, `PID on HOST`; `unknown` while the file names none.

    A process that was killed leaves its name in the file, but not the lock.
    """
    try:
        return lock.read_text().strip() or "unknown"
    except (OSError, UnicodeDecodeError):
        return "unknown"


def wait_until_free(lock: Path, on_wait: Callable[[str], None]) -> None:
    """Returns once no process holds the lock; calls `on_wait` with the holder first, if any."""
    with lock.open("a+") as file:
        if not _taken(file, lock):
            on_wait(holder(lock))
            while not _taken(file, lock):
                time.sleep(_POLL_SECONDS)


def this_process() -> str:
    """The name of this process as a holder: `PID on HOST`."""
    return f"{os.getpid()} on {socket.gethostname()}"


def already_running(what: str, who: str) -> UserError:
    """The error for a second process; `who` is the first one, `PID on HOST`."""
    return UserError(
        f"{what} is already running here (process {who}); wait for it or stop it first"
    )


def _check_there(lock: Path, file: IO[str], what: str) -> None:
    """Raises `UserError` unless the lock file is still the one that is held."""
    try:
        found = "another file"
        there = os.path.samestat(lock.stat(), os.fstat(file.fileno()))
    except OSError as error:
        there, found = False, str(error.strerror)
    if not there:
        raise UserError(
            f"{lock}: its folder vanished or was replaced during {what} ({found}), expected it to "
            "stay; the same command goes on once it is back"
        )


def _taken(file: IO[str], lock: Path) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise UserError(
            f"{lock}: cannot be locked ({error}), expected a file system with file locks"
        ) from None
    return True
