"""Headers of tar archives that no program should write."""

import tarfile
from pathlib import Path

import pytest

from pipeline.sources.listing import find_photos


@pytest.mark.parametrize("kind", [b"x", b"g", b"L"])
def test_a_header_that_claims_a_gigabyte_ends_the_archive(kind: bytes, tmp_path: Path) -> None:
    header = tarfile.TarInfo("a.png")
    header.type, header.size = kind, 2**30
    path = tmp_path / "x.tar"
    with path.open("wb") as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        file.truncate(2**31)  # sparse: takes no disk
    found = find_photos(str(path))
    assert not found.photos
    assert [entry.reason for entry in found.skipped] == [
        "the archive is damaged after 0 members (a header of 1073741824 bytes)"
    ]


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE, b"L", b"S", b"?"])
@pytest.mark.parametrize("size", [-1, -512, -1024, -100_000, 2**62, 2**80])
def test_no_size_leads_out_of_the_archive(kind: bytes, size: int, tmp_path: Path) -> None:
    """Headers can say sizes below zero, which lead back, and sizes that no file has."""
    first, odd = tarfile.TarInfo("a.png"), tarfile.TarInfo("b.png")
    odd.type, odd.size = kind, size
    path = tmp_path / "x.tar"
    blocks = [each.tobuf(tarfile.GNU_FORMAT) for each in (first, odd)]
    path.write_bytes(b"".join(blocks) + bytes(tarfile.RECORDSIZE))
    found = find_photos(str(path))
    assert [photo.name for photo in found.photos] == ["a.png"]
    assert found.skipped or kind == tarfile.DIRTYPE


def test_names_in_an_archive_are_utf_8_in_any_locale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("\xe9t\xe9.png"))
    monkeypatch.setattr(tarfile.TarFile, "encoding", "iso8859-1")
    assert [photo.name for photo in find_photos(str(tmp_path / "x.tar")).photos] == [
        "\xe9t\xe9.png"
    ]
