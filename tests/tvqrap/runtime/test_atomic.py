"""Files that appear whole or not at all."""

import fcntl
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.support.limits import files_up_to
from tvqrap.runtime.atomic import (
    atomic_path,
    is_temporary,
    sweep_temporaries,
    temporary_folder,
    write_atomic,
)

DIE = """
import os, signal, sys
from pathlib import Path
from tvqrap.runtime.atomic import atomic_path

with atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def left_by_a_dead_process(path: Path) -> str:
    before = set(names(path.parent))
    subprocess.run([sys.executable, "-c", DIE, str(path)], check=False)
    (name,) = set(names(path.parent)) - before
    return name


def test_two_writers_of_one_process_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with atomic_path(path) as first, atomic_path(path) as second:
        assert first != second and first.parent == second.parent == tmp_path
        assert is_temporary(first.name) and is_temporary(second.name)
        first.write_bytes(b"one")
        second.write_bytes(b"two")
    assert names(tmp_path) == ["a.tar"]
    assert path.read_bytes() == b"one", "the last to end has the name"


def test_a_full_disk_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    with files_up_to(100), pytest.raises(OSError) as full:
        write_atomic(tmp_path / "a", bytes(1000))
    assert full.value.filename == str(tmp_path / "a")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError) as taken:
        write_atomic(tmp_path / "folder", b"")
    assert taken.value.filename == str(tmp_path / "folder")
    with pytest.raises(FileNotFoundError) as other, atomic_path(tmp_path / "a"):
        (tmp_path / "absent").read_bytes()
    assert other.value.filename == str(tmp_path / "absent")
    assert names(tmp_path) == ["folder"]


def test_nothing_is_left_of_a_write_that_failed(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a", "before")
    with pytest.raises(OSError), atomic_path(tmp_path / "a") as temporary:
        temporary.write_text("half")
        raise OSError("disk full")
    assert names(tmp_path) == ["a"] and (tmp_path / "a").read_text() == "before"


def test_every_name_that_the_disk_allows_can_be_written(tmp_path: Path) -> None:
    for name in ("x" * 251 + ".png", "é" * 127):
        write_atomic(tmp_path / name, name)
        assert (tmp_path / name).read_text() == name


def test_what_a_dead_process_left_goes_with_the_next_write(tmp_path: Path) -> None:
    left = left_by_a_dead_process(tmp_path / "a")
    assert is_temporary(left) and names(tmp_path) == [left]
    write_atomic(tmp_path / "b", "whole")
    assert names(tmp_path) == ["b"]


def test_only_what_is_left_behind_is_swept(tmp_path: Path) -> None:
    mine = [".hidden.tmp", ".a.png.4711.tmp", "a.tmp"]
    elsewhere = [f".tvqrap.00000000.1.0000000{number}.tmp" for number in range(2)]
    for name in mine + elsewhere:
        (tmp_path / name).touch()
    week = time.time() - 8 * 24 * 3600
    for name in (elsewhere[1], *mine):
        os.utime(tmp_path / name, (week, week))
    with atomic_path(tmp_path / "b") as temporary:
        temporary.touch()
        left_by_a_dead_process(tmp_path / "a")
        sweep_temporaries(tmp_path)
        assert names(tmp_path) == sorted([*mine, elsewhere[0], temporary.name])


def test_a_file_that_cannot_be_flushed_does_not_take_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    write_atomic(tmp_path / "a", "before")
    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(tmp_path / "a", "after")
    assert names(tmp_path) == ["a"] and (tmp_path / "a").read_text() == "before"


def test_a_temporary_folder_is_private_and_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    with temporary_folder() as folder:
        assert folder.parent == tmp_path and folder.stat().st_mode & 0o777 == 0o700
        (folder / "a").mkdir()
        (folder / "a/b").write_text("content")
        abandoned = tmp_path / folder.name.replace(f".{os.getpid()}.", f".{dead.pid}.")
        abandoned.mkdir()
        (abandoned / "c").touch()
        file = tmp_path / f"{abandoned.name[:-12]}00000000.tmp"  # a file is not swept
        file.touch()
        with temporary_folder() as other:
            assert sorted(tmp_path.iterdir()) == sorted([folder, other, file])
    assert list(tmp_path.iterdir()) == [file]


class TestWindows:
    """What differs there, as far as it can be seen elsewhere."""

    def test_no_process_is_interrupted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        left = tmp_path / left_by_a_dead_process(tmp_path / "a")
        kills: list[object] = []
        monkeypatch.setattr(sys, "platform", "win32")
        monkeypatch.setattr(os, "kill", lambda *signal: kills.append(signal))
        sweep_temporaries(tmp_path)
        assert left.exists() and kills == []
        week = time.time() - 8 * 24 * 3600
        os.utime(left, (week, week))
        sweep_temporaries(tmp_path)
        assert not left.exists() and kills == []

    def test_files_are_flushed_by_a_writable_descriptor(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        flags: list[int] = []
        monkeypatch.setattr(sys, "platform", "win32")
        monkeypatch.setattr(os, "fsync", lambda fd: flags.append(fcntl.fcntl(fd, fcntl.F_GETFL)))
        write_atomic(tmp_path / "a", "whole")
        assert [each & os.O_ACCMODE for each in flags] == [os.O_RDWR]
