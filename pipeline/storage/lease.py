"""One driver at a time on a data set, in a folder or in an object store.

Stores have no locks that end with their process, but some put an object only where its name is
free. A lease is a log of such objects, numbered: to take it, to renew it and to give it back each
add the next number, which only one process can. A lease that nobody renews ends. No two machines'
clocks are compared: who waits for a lease to end watches it for as long as it lasts.
"""

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.storage.location import Location, Url, file_sizes
from pipeline.storage.lock import already_running, file_lock, this_process
from tvqrap.runtime.errors import UserError

log = logging.getLogger(__name__)

SECONDS = 30.0
"""How long a lease lasts that is not renewed. It is renewed three times as often."""
_POLLS = 30
"""Looks at another's lease while it lasts."""

Check = Callable[[], None]
"""Raises `UserError` where what it stands for is no longer held."""


def only_driver(place: Location, what: str) -> AbstractContextManager[Check]:
    """Keeps other drivers from a data set while the block runs: `place.lock` on disk, else a lease.

    Yields a check for long work to call before it records anything: a lease, unlike a lock, can be
    lost. Raises `UserError` that names the process that has it, or where the storage has neither
    locks nor conditional puts.
    """
    if isinstance(place, Path):
        return _locked(place.with_name(f"{place.name}.lock"), what)
    return _leased(place.parent / f"{place.name}.lease", what)


@contextmanager
def _locked(lock: Path, what: str) -> Iterator[Check]:
    with file_lock(lock, what):
        yield lambda: None


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
    """Raises `UserError` where the store has no conditional puts, or takes them for plain ones."""
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


@dataclass(frozen=True)
class _Entry:
    """One object of the log."""

    number: int
    holder: str
    """`PID on HOST`; empty where the lease was given back."""


class _Lease:
    def __init__(self, folder: Url, what: str) -> None:
        self._folder = folder
        self._what = what
        self._mark = uuid.uuid4().hex
        self._number = 0
        self._lost: str | None = None
        self._renewed = 0.0

    def take(self) -> None:
        """Waits while the lease of another may still be alive; refuses where it is renewed."""
        watched = self._latest()
        ends = time.monotonic() + SECONDS
        if watched.holder:
            log.warning(
                "%s: process %s has had it; waiting up to %.0f s to see whether it is still there",
                self._folder,
                watched.holder,
                SECONDS,
            )
        while watched.holder and time.monotonic() < ends:
            time.sleep(SECONDS / _POLLS)
            latest = self._latest()
            if latest != watched:
                if latest.holder:
                    raise already_running(self._what, latest.holder)
                watched = latest
        started = time.monotonic()
        taken = self._add(watched.number + 1, this_process())
        latest = self._latest()
        if not taken or latest.number != watched.number + 1:
            # Another one was faster, perhaps by so much that it has removed our number since.
            raise already_running(self._what, latest.holder or "unknown")
        self._number, self._renewed = latest.number, started
        self._remove_older()

    def renew(self) -> None:
        """Makes it last from now on. A store that does not answer is asked again the next time."""
        started = time.monotonic()
        try:
            if self._lost is None and not self._add(self._number + 1, this_process()):
                self._lost = self._latest().holder or "unknown"
            if self._lost is None:
                self._number += 1
                self._renewed = started
                if self._remove_older() > self._number:
                    self._lost = self._latest().holder or "unknown"
        except OSError as error:
            log.warning("%s: the lease could not be renewed: %s", self._folder, error)

    def check(self) -> None:
        """Raises `UserError` where another process may have taken over."""
        if self._lost is not None:
            raise already_running(self._what, self._lost)
        age = time.monotonic() - self._renewed
        if age > SECONDS:
            raise UserError(
                f"{self._folder}: the lease could not be renewed for {age:.0f} s, expected a store "
                f"that answers within {SECONDS:.0f}; another driver may be at work by now"
            )

    def give_back(self) -> None:
        """Lets the next one have it at once."""
        with suppress(OSError):
            while self._lost is None and self._add(self._number + 1, ""):
                self._number += 1
                if not self._latest().holder:  # else it was a renewal whose answer got lost
                    self._remove_older()
                    break

    def _add(self, number: int, holder: str) -> bool:
        """Whether this process is the one that added that number."""
        place = self._folder / f"{number:012d}"
        try:
            place.create(json.dumps({"holder": holder, "mark": self._mark}).encode())
        except FileExistsError:
            # A put whose answer got lost is met by the next one, or by itself, sent again.
            with suppress(FileNotFoundError):
                return bool(json.loads(place.read_bytes())["mark"] == self._mark)
            return False
        return True

    def _latest(self) -> _Entry:
        while True:
            number = max((int(name) for name in self._names()), default=0)
            if not number:
                return _Entry(0, "")
            try:
                content = json.loads((self._folder / f"{number:012d}").read_bytes())
                return _Entry(number, str(content["holder"]))
            except FileNotFoundError:  # a newer one has taken its place
                continue

    def _remove_older(self) -> int:
        """Removes numbers below the own; returns the highest there is."""
        names = self._names()
        for name in names:
            if int(name) < self._number:
                (self._folder / name).remove()
        return max(map(int, names), default=0)

    def _names(self) -> list[str]:
        return [name for name in file_sizes(self._folder) if name.isdecimal()]
