"""Files that appear whole or not at all."""

import os
from pathlib import Path

import pytest

from tvqrap.runtime.atomic import atomic_path, write_atomic


def test_two_writers_with_one_process_number_do_not_meet(tmp_path: Path) -> None:
    """As two hosts that share the folder may have."""
    path = tmp_path / "a.tar"
    with atomic_path(path) as first, atomic_path(path) as second:
        assert first != second
        for temporary in (first, second):
            assert temporary.name.startswith(f".a.tar.{os.getpid()}.")
            assert temporary.suffix == ".tmp"
        first.write_bytes(b"one")
        second.write_bytes(b"two")
    assert [each.name for each in tmp_path.iterdir()] == ["a.tar"]
    assert path.read_bytes() == b"one", "who is done last has the name"


def test_nothing_is_left_of_a_write_that_failed(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a", "before")
    with pytest.raises(OSError), atomic_path(tmp_path / "a") as temporary:
        temporary.write_text("half")
        raise OSError("disk full")
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("a", "before")]
