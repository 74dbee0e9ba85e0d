"""A lease on a data set in an object store: one driver at a time, dead ones give way."""

import json
import os
import socket
import threading
import time
from contextlib import suppress
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from pipeline.storage import lease
from pipeline.storage.lease import only_driver
from pipeline.storage.location import StorageError, Url, file_sizes
from pipeline.storage.lock import Check
from tvqrap.runtime.errors import UserError

ME = f"{os.getpid()} on {socket.gethostname()}"


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "SECONDS", 3.0)


def entries(place: Url) -> dict[int, str]:
    """Numbers and holders of a lease's log; a renewal may remove an older entry meanwhile."""
    folder = place.parent / f"{place.name}.lease"
    found = {}
    for number in numbers(place):
        with suppress(FileNotFoundError):
            found[number] = json.loads((folder / f"{number:012d}").read_bytes())["holder"]
    return found


def numbers(place: Url) -> list[int]:
    return [int(name) for name in file_sizes(place.parent / f"{place.name}.lease")]


def test_a_second_driver_is_refused_while_the_first_renews(
    store: Url, caplog: pytest.LogCaptureFixture
) -> None:
    place = store / "train"
    with only_driver(place, "extraction") as check:
        with pytest.raises(UserError) as caught, only_driver(place, "extraction"):
            pytest.fail("it was held twice")
        assert str(caught.value) == (
            f"extraction is already running here (process {ME}); wait for it or stop it first"
        )
        check()
        assert set(entries(place).values()) == {ME}
    assert list(entries(place).values()) == [""]
    assert "waiting up to" in caplog.text
    caplog.clear()
    with only_driver(place, "extraction") as check:
        check()
    assert "waiting up to" not in caplog.text, "it waited for a lease that was given back"


def test_the_lease_of_a_dead_driver_ends(store: Url) -> None:
    place = store / "train"
    (store / "train.lease" / f"{41:012d}").create(b'{"holder": "1 on gone", "mark": ""}')
    started = time.monotonic()
    with only_driver(place, "extraction") as check:
        assert time.monotonic() - started >= lease.SECONDS
        check()
        assert min(entries(place)) >= 42


def test_of_many_drivers_at_once_one_has_the_lease(store: Url) -> None:
    """Whatever the machine's speed: a driver whose lease expired stops as the next one begins."""
    checks: list[Check] = []
    valid_beside_another: list[Check] = []
    refused: list[str] = []
    ready, decided = threading.Barrier(6), threading.Event()

    def decide() -> None:
        if len(checks) + len(refused) == 6:
            decided.set()

    def drive() -> None:
        ready.wait()
        try:
            with only_driver(store / "train", "extraction") as check:
                valid_beside_another.extend(other for other in checks if holds(other))
                checks.append(check)
                decide()
                decided.wait(timeout=100)
        except UserError as error:
            refused.append(str(error))
            decide()

    threads = [threading.Thread(target=drive) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert checks and len(checks) + len(refused) == 6
    assert not valid_beside_another


def holds(check: Check) -> bool:
    try:
        check()
    except UserError:
        return False
    return True


def test_a_lease_that_was_lost_stops_its_driver(memory: Url) -> None:
    place = memory / "train"
    with only_driver(place, "extraction") as check:
        # Another driver took it while this one was asleep.
        other = b'{"holder": "7 on other", "mark": ""}'
        (memory / "train.lease" / f"{max(entries(place)) + 1:012d}").create(other)
        deadline = time.monotonic() + 5
        with pytest.raises(UserError, match=r"^extraction is already running here \(process 7 on"):
            while time.monotonic() < deadline:
                check()
                time.sleep(0.05)
    assert list(entries(place).values())[-1] == "7 on other", "it gave back what is another's"


def test_a_store_that_stops_answering_stops_the_driver(
    memory: Url, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(url: Url, content: bytes) -> None:
        raise TimeoutError("no answer")

    with only_driver(memory / "train", "extraction") as check:
        with monkeypatch.context() as patch:
            patch.setattr(Url, "create", silent)
            time.sleep(1.3 * lease.SECONDS)
            with pytest.raises(UserError, match=r"could not be renewed for \d s, expected a store"):
                check()
        time.sleep(lease.SECONDS / 2)
        assert not holds(check), "an expired lease came back"


def test_a_driver_that_slept_is_never_valid_beside_the_one_that_took_over(
    memory: Url, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, folder = memory / "train", memory / "train.lease"
    listed = Url.entries

    def silent(url: Url, content: bytes) -> None:
        raise TimeoutError("no answer")

    def slowly(url: Url) -> list[dict[str, Any]]:
        time.sleep(0.3)
        return listed(url)

    with only_driver(place, "extraction") as check, monkeypatch.context() as patch:
        create = Url.create
        patch.setattr(Url, "create", silent)
        time.sleep(1.3 * lease.SECONDS)
        highest = max(numbers(place))
        for name in file_sizes(folder):
            (folder / name).remove()
        other = b'{"holder": "7 on other", "mark": ""}'
        create(folder / f"{highest + 7:012d}", other)
        patch.setattr(Url, "entries", slowly)
        patch.setattr(Url, "create", create)
        deadline = time.monotonic() + lease.SECONDS
        while time.monotonic() < deadline:
            assert not holds(check)
            time.sleep(0.02)
    assert entries(place)[highest + 7] == "7 on other"


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"[" * 10_000, b'{"holder": "1 on \\u001b[2J", "mark": ""}', b"\xff"],
)
def test_an_object_that_is_no_entry_counts_as_another_driver(memory: Url, content: bytes) -> None:
    place = memory / "train"
    with only_driver(place, "extraction") as check:
        (memory / "train.lease" / f"{max(numbers(place)) + 1:012d}").create(content)
        deadline = time.monotonic() + 5 * lease.SECONDS
        while holds(check) and time.monotonic() < deadline:
            time.sleep(0.05)
        with pytest.raises(UserError, match=r"^extraction is already running here \(process unkn"):
            check()
    with only_driver(place, "extraction") as check:
        check()


def test_other_files_beside_the_log_are_left_alone(memory: Url) -> None:
    place, others = memory / "train", ("42", "\u0664\u0662", "0000000000042", "notes.txt")
    for name in others:
        (memory / "train.lease" / name).write_bytes(b"")
    with only_driver(place, "extraction") as check:
        check()
    assert set(others) < file_sizes(memory / "train.lease").keys()


def test_a_put_that_was_sent_twice_meets_itself(
    memory: Url, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = Url.create

    def twice(url: Url, content: bytes) -> None:
        create(url, content)
        if "probe" not in url.name:
            create(url, content)

    monkeypatch.setattr(Url, "create", twice)
    with only_driver(memory / "train", "extraction") as check:
        check()


def test_puts_whose_answers_got_lost_are_met_again(
    memory: Url, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, lost = Url.create, [False, True, False, True]

    def unanswered(url: Url, content: bytes) -> None:
        create(url, content)
        if "probe" not in url.name and lost and lost.pop(0):
            raise StorageError("no answer")

    monkeypatch.setattr(Url, "create", unanswered)
    with only_driver(memory / "train", "extraction") as check:
        deadline = time.monotonic() + 1.3 * lease.SECONDS
        while time.monotonic() < deadline:
            check()
            time.sleep(0.05)
        monkeypatch.setattr(Url, "create", create)
    assert list(entries(memory / "train").values()) == [""]


class WithoutConditions(MemoryFileSystem):
    """A store that takes a conditional put for a plain one."""

    protocol = "plain"

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        super().pipe_file(path, value)


class WithoutPuts(MemoryFileSystem):
    """A store for which fsspec looks first and writes then."""

    protocol = "looking"
    pipe_file = fsspec.AbstractFileSystem.pipe_file


@pytest.mark.parametrize("kind", [WithoutConditions, WithoutPuts])
def test_a_store_without_conditional_puts_is_refused(kind: type[MemoryFileSystem]) -> None:
    fsspec.register_implementation(kind.protocol, kind, clobber=True)
    place = Url(f"{kind.protocol}://data/train")
    with (
        pytest.raises(UserError, match="has neither locks nor conditional puts"),
        only_driver(place, "extraction"),
    ):
        pytest.fail("it was held")
