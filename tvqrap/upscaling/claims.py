"""Claims by which several processes share the photographs of one folder. Needs no torch."""

import hashlib
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

_POLL_SECONDS = 0.5

Work = TypeVar("Work")
Result = TypeVar("Result")


@contextmanager
def claim(target: Path) -> Iterator[bool]:
    """Yields whether this process alone may write `target`; the folder is made if need be.

    The claim is a lock on a hidden file beside the target, which is removed with the claim. It ends
    with its process, however that ends; the next claim of that target removes what is left. On
    disks without locks everything is claimed. Raises OSError where the folder cannot be made.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # Disks without case or with other Unicode forms have one file for all spellings of a name.
    spelled = unicodedata.normalize("NFC", target.name).casefold()
    name = hashlib.sha256(spelled.encode(errors="surrogateescape")).hexdigest()[:16]
    path = target.with_name(f".tvqrap.{name}.lock")
    lock = FileLock(path, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    except (OSError, NotImplementedError):  # filelock's answers of a disk without locks
        yield True
        return
    try:
        yield True
    finally:
        # Removed while it is held, when nobody else can hold it. Windows removes no file that any
        # process has opened.
        if sys.platform != "win32":
            path.unlink(missing_ok=True)
        lock.release()
        if sys.platform == "win32":
            with suppress(OSError):
                path.unlink()


def in_turn(
    work: Sequence[Work], run: Callable[[Work], Result | None]
) -> Iterator[tuple[Work, Result]]:
    """Runs all work and yields the results as they come.

    `run` gives None for work that another process has claimed. It is run again after the rest,
    until that process has finished it or has died.
    """
    waiting = list(work)
    while waiting:
        claimed = []
        for each in waiting:
            result = run(each)
            if result is None:
                claimed.append(each)
            else:
                yield each, result
        if len(claimed) == len(waiting):
            time.sleep(_POLL_SECONDS)
        waiting = claimed
