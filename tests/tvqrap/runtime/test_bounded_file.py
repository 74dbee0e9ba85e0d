"""Files whose own lengths cannot be trusted."""

from pathlib import Path

from tvqrap.runtime.bounded_file import BoundedFile


def test_no_more_is_asked_for_than_the_file_has(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    with BoundedFile(path) as file:
        assert file.read(2) == b"01"
        assert file.read(2**62) == b"23456789", "a plain file takes this memory first"
        assert file.read(2**62) == b""
        file.seek(4)
        assert file.read() == b"456789"
