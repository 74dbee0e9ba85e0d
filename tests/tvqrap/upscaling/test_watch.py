"""Photographs that appear."""

from pathlib import Path

from tvqrap.photo_io.formats import FORMATS
from tvqrap.upscaling.jobs import Job
from tvqrap.upscaling.watch import NewPhotographs


def test_files_count_when_they_are_written(tmp_path: Path) -> None:
    a, b = tmp_path / "a.png", tmp_path / "b.png"
    jobs = [Job(path, path.with_suffix(".out"), FORMATS["png"]) for path in (a, b)]
    new = NewPhotographs()
    a.write_bytes(b"half")
    assert new.among(jobs) == []  # b is listed and not there any more
    a.write_bytes(b"half and half")
    b.write_bytes(b"whole")
    assert new.among(jobs) == []
    assert new.among(jobs) == jobs
    assert new.among(jobs) == []
    b.write_bytes(b"a new version")
    assert new.among(jobs) == []
    assert new.among(jobs) == jobs[1:]
    a.unlink()
    assert new.among(jobs) == []
    a.write_bytes(b"half and half")
    assert new.among(jobs) == []
    assert new.among(jobs) == jobs[:1]
