"""One driver at a time on one data set: the second is told who has it."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tvqrap.errors import UserError
from tvqrap.files import write_whole


@contextmanager
def only_driver(lock: Path) -> Iterator[None]:
    """Holds a lock file for as long as the block runs, and says in `LOCK.holder` whose it is.

    The lock ends with its process, however that ends. Raises `UserError` that names host and
    process of the driver that has it, or where the file system has no locks.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    holder = lock.with_name(f"{lock.name}.holder")
    with lock.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{lock}: {_who(holder)} is at work on this data set; wait for it or stop it first"
            ) from None
        except OSError as error:
            raise UserError(
                f"{lock}: cannot be locked ({error}), expected a file system with file locks"
            ) from None
        write_whole(holder, json.dumps({"host": socket.gethostname(), "process": os.getpid()}))
        try:
            yield
        finally:
            holder.unlink(missing_ok=True)


def _who(holder: Path) -> str:
    try:
        found = json.loads(holder.read_bytes())
        return f"process {found['process']} on {found['host']}"
    except (OSError, ValueError, KeyError, TypeError):  # it has only just taken the lock
        return "another process"
