"""One process at a time, and the second hears who is the first."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.storage.lock import file_lock, holder, wait_until_free
from tests.support.paths import ROOT
from tvqrap.runtime.errors import UserError

HOLD = """
import sys, time
from pathlib import Path
from pipeline.storage.lock import file_lock
with file_lock(Path(sys.argv[1]), "sample"):
    time.sleep(float(sys.argv[2]))
"""


def other_holder(lock: Path, seconds: float) -> "subprocess.Popen[bytes]":
    """A process that has the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(lock), str(seconds)], cwd=ROOT)
    deadline = time.monotonic() + 60
    while holder(lock) == "unknown":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def test_the_second_is_refused_with_the_firsts_process_and_host(tmp_path: Path) -> None:
    lock = tmp_path / "folder/sample.lock"
    for _ in range(2):
        with (
            file_lock(lock, "sample"),
            pytest.raises(UserError) as caught,
            file_lock(lock, "sample"),
        ):
            pytest.fail("it was held twice")
        assert str(caught.value) == (
            f"sample is already running here (process {os.getpid()} on {socket.gethostname()}); "
            "wait for it or stop it first"
        )
    assert holder(lock) == "unknown"


def test_a_folder_that_vanished_is_noticed(tmp_path: Path) -> None:
    lock = tmp_path / "share/sample.lock"
    with file_lock(lock, "sample") as check:
        check()
        lock.parent.rename(tmp_path / "gone")
        with pytest.raises(UserError, match=r"sample\.lock: its folder vanished .* during sample "):
            check()
        lock.parent.mkdir()
        lock.write_text("")
        with pytest.raises(UserError, match=r"vanished or was replaced .* \(another file\)"):
            check()
        lock.unlink()
        lock.parent.rmdir()
        (tmp_path / "gone").rename(lock.parent)
        check()


def test_a_killed_holder_leaves_its_name_but_not_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "sample.lock"
    process = other_holder(lock, 60)
    with pytest.raises(UserError, match=rf"process {process.pid} on "), file_lock(lock, "sample"):
        pytest.fail("it was held twice")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert holder(lock) == f"{process.pid} on {socket.gethostname()}"
    wait_until_free(lock, pytest.fail)
    with file_lock(lock, "sample"):
        assert holder(lock) == f"{os.getpid()} on {socket.gethostname()}"


def test_patience_outlasts_a_holder_that_is_about_to_end(tmp_path: Path) -> None:
    lock = tmp_path / "sample.lock"
    process = other_holder(lock, 1)
    with file_lock(lock, "sample", patience=30):
        assert process.wait(timeout=10) == 0
