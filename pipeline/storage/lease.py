"""One driver at a time on a data set, in a folder or in an object store.

A store has no locks that end with their process, but some stores put an object only where its name
is free. A lease is a log of numbered objects. To take, to renew and to give back the lease, a
driver adds the object of the next number, which only one driver can. A lease that is not renewed
expires. Clocks of two machines are never compared: a driver that waits for a lease to expire
watches it for as long as a lease lasts.
"""

import logging
import re
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Annotated

from pydantic import StringConstraints, ValidationError

from pipeline.storage.location import Location, Url, file_sizes
from pipeline.storage.lock import Check, already_running, file_lock, this_process
from tvqrap.runtime.documents import Document
from tvqrap.runtime.errors import UserError

log = logging.getLogger(__name__)

SECONDS = 30.0
"""How long a lease lasts without a renewal. It is renewed three times as often."""
_POLLS = 30
"""How often a waiting driver reads another's lease while that lasts."""


def only_driver(folder: Location, what: str) -> AbstractContextManager[Check]:
    """Keeps other drivers from a data set while the block runs: by a lock on disk, else by a lease.

    The lock is the file `FOLDER.lock`, the lease the folder `FOLDER.lease`. Yields a check that
    long work calls before it records anything: a lease can be lost, and a lock's folder can vanish.
    Raises `UserError` that names the holder, or where the storage has neither locks nor conditional
    puts.
    """
    if isinstance(folder, Path):
        return file_lock(folder.with_name(f"{folder.name}.lock"), what)
    return _leased(folder.parent / f"{folder.name}.lease", what)


@contextmanager
def _leased(folder: Url, what: str) -> Iterator[Check]:
    _check_store(folder)
    lease = _Lease(folder, what)
    lease.take()
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(SECONDS / 3):
            lease.renew()

    thread = threading.Thread(target=renew, daemon=True, name="lease")
    thread.start()
    try:
        yield lease.check
    finally:
        ended.set()
        thread.join()
        lease.give_back()


def _check_store(folder: Url) -> None:
    """Raises `UserError` where the store has no conditional puts, or treats them as plain ones."""
    ignored = False
    if folder.can_create:
        probe = folder / f"probe-{uuid.uuid4().hex}"
        probe.create(b"")
        with suppress(FileExistsError):
            probe.create(b"")
            ignored = True
        probe.remove()
    if ignored or not folder.can_create:
        raise UserError(
            f"{folder.parent}: its store has neither locks nor conditional puts (If-None-Match), "
            "so nothing would keep a second driver away; expected a folder, or a store such as S3"
        )


class _Entry(Document):
    """One object of the log."""

    holder: Annotated[str, StringConstraints(pattern=r"^(\d+ on [^\s\x00-\x1f\x7f-\x9f]+)?$")]
    """`PID on HOST`; empty where the lease was given back."""
    mark: str
    """Tells drivers of one PID and host apart."""


_UNREADABLE = _Entry.model_construct(holder="unknown", mark="")
"""Stands for an object that is no entry: some driver may hold the lease."""


class _Lease:
    def __init__(self, folder: Url, what: str) -> None:
        self._folder = folder
        self._what = what
        self._mark = uuid.uuid4().hex
        self._number = 0
        self._lost: UserError | None = None
        self._renewed = 0.0
        """When the last entry that counts was about to be added."""

    def take(self) -> None:
        """Waits while another's lease may still be valid; raises `UserError` if it is renewed."""
        number, entry = self._latest()
        expires = time.monotonic() + SECONDS
        if entry.holder:
            log.warning(
                "%s: process %s held it last; waiting up to %.0f s to see whether it still runs",
                self._folder,
                entry.holder,
                SECONDS,
            )
        while entry.holder and time.monotonic() < expires:
            time.sleep(SECONDS / _POLLS)
            latest, now = self._latest()
            if latest != number:
                if now.holder:
                    raise already_running(self._what, now.holder)
                number, entry = latest, now
        started = time.monotonic()
        if not self._add(number + 1, this_process()) or self._highest() != number + 1:
            # Another driver was faster, perhaps by so much that it has removed this number since.
            raise already_running(self._what, self._latest()[1].holder or "unknown")
        self._number, self._renewed = number + 1, started
        self._remove_older()

    def renew(self) -> None:
        """Extends the lease. Where the store does not answer, the next call tries again."""
        started = time.monotonic()
        if self._lost is not None or self._expired():
            return
        try:
            # The number may be free because another driver has taken over and removed it. So the
            # new entry counts only once it is seen to be the highest.
            if (
                not self._add(self._number + 1, this_process())
                or self._highest() != self._number + 1
            ):
                holder = self._latest()[1].holder
                self._lost = already_running(self._what, holder or "unknown")
                return
            self._number += 1
            self._renewed = started
            self._remove_older()
        except OSError as error:
            log.warning("%s: the lease could not be renewed: %s", self._folder, error)

    def check(self) -> None:
        """Raises `UserError` where another driver may hold the lease by now."""
        if self._lost is None:
            self._expired()
        if self._lost is not None:
            raise self._lost

    def give_back(self) -> None:
        """Lets the next driver take the lease at once."""
        if self._lost is not None or self._expired():
            return
        with suppress(OSError):
            while self._add(self._number + 1, ""):
                self._number += 1
                if not self._latest()[1].holder:  # else it was a renewal whose answer got lost
                    self._remove_older()
                    break

    def _expired(self) -> bool:
        """Whether the lease was not renewed in time. An expired lease is lost for good."""
        age = time.monotonic() - self._renewed
        if age > SECONDS:
            self._lost = UserError(
                f"{self._folder}: the lease could not be renewed for {age:.0f} s, expected a store "
                f"that answers within {SECONDS:.0f}; another driver may have taken over"
            )
        return age > SECONDS

    def _add(self, number: int, holder: str) -> bool:
        """Whether this driver is the one that added that number."""
        entry = _Entry(holder=holder, mark=self._mark)
        try:
            (self._folder / _name(number)).create(entry.model_dump_json().encode())
        except FileExistsError:
            # A put whose answer got lost is met by its own repetition.
            with suppress(FileNotFoundError):
                return self._read(number).mark == self._mark
            return False
        return True

    def _latest(self) -> tuple[int, _Entry]:
        """The highest number and its entry; 0 and an entry without a holder in an empty log."""
        while number := self._highest():
            with suppress(FileNotFoundError):  # removed meanwhile: there is a higher number
                return number, self._read(number)
        return 0, _Entry(holder="", mark="")

    def _read(self, number: int) -> _Entry:
        try:
            return _Entry.model_validate_json((self._folder / _name(number)).read_bytes())
        except ValidationError:
            return _UNREADABLE

    def _remove_older(self) -> None:
        for number in self._numbers():
            if number < self._number:
                (self._folder / _name(number)).remove()

    def _highest(self) -> int:
        return max(self._numbers(), default=0)

    def _numbers(self) -> list[int]:
        names = file_sizes(self._folder)
        return [int(name) for name in names if re.fullmatch("[0-9]{12}", name)]


def _name(number: int) -> str:
    return f"{number:012d}"
