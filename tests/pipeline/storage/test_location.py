"""Folders and object stores: one behaviour, whole files, one-line errors."""

import io
import os
import threading
from pathlib import Path

import pytest

from pipeline.storage.location import (
    Location,
    StorageError,
    Url,
    copy_file,
    file_sizes,
    folder_names,
    location,
    opened,
    remove,
    write_text,
    written,
)
from tests.support.disasters import apart
from tvqrap.runtime.errors import UserError


@pytest.fixture(params=["folder", "memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """An empty folder on disk, or of an object store of either kind."""
    if request.param == "folder":
        return tmp_path / "place"
    url: Url = request.getfixturevalue(request.param)
    return url


def test_files_are_written_read_listed_and_removed(place: Location) -> None:
    assert file_sizes(place) == {} and folder_names(place) == []
    write_text(place / "b.txt", "zwölf")
    with written(place / "a.tar") as file:
        file.write(b"x" * 700)
        assert file.tell() == 700
        assert "a.tar" not in file_sizes(place)
    write_text(place / "inner" / "c", "")
    assert file_sizes(place) == {"a.tar": 700, "b.txt": 6}
    assert folder_names(place) == ["inner"]
    assert (place / "b.txt").is_file() and not (place / "inner").is_file()
    assert (place / "b.txt").read_bytes() == "zwölf".encode()
    with opened(place / "b.txt") as file:
        file.seek(2)
        assert file.read() == "ölf".encode()
    write_text(place / "b.txt", "other")
    assert (place / "b.txt").read_bytes() == b"other"
    for _ in range(2):
        remove(place / "b.txt")
    with pytest.raises(FileNotFoundError):
        (place / "b.txt").read_bytes()
    with pytest.raises(FileNotFoundError), opened(place / "b.txt"):
        pass
    assert list(file_sizes(place)) == ["a.tar"]


def test_a_file_appears_whole_or_not_at_all(place: Location) -> None:
    write_text(place / "kept", "before")
    for name in ("kept", "new"):
        with pytest.raises(ZeroDivisionError), written(place / name) as file:
            file.write(b"half")
            raise ZeroDivisionError
    assert file_sizes(place) == {"kept": 6}
    assert (place / "kept").read_bytes() == b"before"


def test_a_folder_is_listed_while_others_write_in_it(tmp_path: Path) -> None:
    """Workers of another run rename and remove files there at any moment."""
    for number in range(500):
        (tmp_path / f"{number}.tar").write_bytes(b"whole")
    ended = threading.Event()

    def write() -> None:
        while not ended.is_set():
            write_text(tmp_path / "999.tar", "whole")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(40):
            assert file_sizes(tmp_path)["7.tar"] == 5
    finally:
        ended.set()
        writer.join()


def test_a_read_only_file_is_linked(tmp_path: Path) -> None:
    """DVC leaves such ones where its cache is made of hard links."""

    def link() -> None:
        os.chdir(tmp_path)
        if os.geteuid() == 0:
            os.chown(tmp_path, 65534, 65534)
            os.setuid(65534)
        Path("a.tar").write_bytes(b"shard")
        Path("a.tar").chmod(0o444)
        copy_file(Path("a.tar"), Path("b.tar"))

    assert apart(link) == 0
    assert (tmp_path / "b.tar").samefile(tmp_path / "a.tar")


def test_creating_succeeds_once(store: Url) -> None:
    assert store.can_create
    (store / "one").create(b"first")
    with pytest.raises(FileExistsError):
        (store / "one").create(b"second")
    assert (store / "one").read_bytes() == b"first"


def test_paths_and_urls_are_told_apart(tmp_path: Path) -> None:
    assert location("data/pairs") == Path("data/pairs")
    assert location(f"file://{tmp_path}/x") == tmp_path / "x"
    url = location("memory://some/folder/")
    assert isinstance(url, Url)
    assert str(url) == "memory://some/folder"
    assert (url.name, url.parent) == ("folder", Url("memory://some"))
    with pytest.raises(UserError, match=r"^nope://a: cannot be used \(Protocol not known: nope\)"):
        location("nope://a")


def test_what_a_store_says_becomes_one_line(memory: Url, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def cat_file(self, path: str) -> bytes:
            raise io.UnsupportedOperation("no luck\nand more")

    monkeypatch.setattr("pipeline.storage.location.url_to_fs", lambda text: (Broken(), text))
    with pytest.raises(StorageError) as caught:
        (memory / "x").read_bytes()
    assert str(caught.value) == f"{memory}/x: UnsupportedOperation: no luck"
    assert isinstance(caught.value, UserError) and isinstance(caught.value, OSError)
