"""Locations of data sets: folders on disk, or URLs of object stores that fsspec reaches.

`Url` has the methods of `pathlib.Path` that data sets need, so that most code takes either. In both
a file appears whole or not at all: on disk it is written under a temporary name and renamed, in a
store it is one put.
"""

import glob
import hashlib
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any, BinaryIO

from fsspec import AbstractFileSystem
from fsspec.asyn import AsyncFileSystem
from fsspec.core import url_to_fs

from tvqrap.runtime.atomic import atomic_path
from tvqrap.runtime.errors import UserError, one_line


class StorageError(UserError, OSError):
    """A store that cannot be reached, or that refuses a request."""


_CHANGING = ("ETag", "etag", "md5", "LastModified", "mtime", "last_modified", "created")
"""Names of entity tags and times in the file systems of fsspec."""


@dataclass(frozen=True, order=True)
class Url:
    """A file or folder of an object store, such as `s3://bucket/folder`.

    Each process takes credentials and endpoints from its environment or from fsspec's own
    configuration files; a `Url` holds none. Methods raise `FileNotFoundError` as those of a path
    do, and `StorageError` for all other errors.
    """

    text: str
    """The URL, without a slash at the end."""

    def __str__(self) -> str:
        return self.text

    def __truediv__(self, name: str) -> "Url":
        return Url(f"{self.text}/{name}")

    @property
    def name(self) -> str:
        """The last part."""
        return self.text.rpartition("/")[2]

    @property
    def parent(self) -> "Url":
        """All but the last part."""
        return Url(self.text.rpartition("/")[0])

    def is_file(self) -> bool:
        """Whether there is a file of this name."""
        with self._store() as (store, path):
            return bool(store.isfile(path))

    def read_bytes(self) -> bytes:
        """The whole content, by one request."""
        with self._store() as (store, path):
            return bytes(store.cat_file(path))

    def read_range(self, offset: int, size: int) -> bytes:
        """The `size` bytes at `offset`, by one request; fewer where the file ends before."""
        with self._store() as (store, path):
            return bytes(store.cat_file(path, start=offset, end=offset + size))

    def write_bytes(self, content: bytes) -> None:
        """Puts the content there and replaces a file of this name."""
        with self._store() as (store, path), _no_bucket(self):
            store.pipe_file(path, content)

    def create(self, content: bytes) -> None:
        """Puts the content there if the name is free; of several callers at once, one succeeds.

        Raises `FileExistsError` where the name is taken. Only for stores that `can_create`.
        """
        with self._store() as (store, path), _no_bucket(self):
            store.pipe_file(path, content, mode="create")

    @property
    def can_create(self) -> bool:
        """Whether its file system has conditional puts of its own.

        For others, fsspec looks first and writes then, which two callers can do at once.
        """
        with self._store() as (store, _):
            store_type = type(store)
            is_async = isinstance(store, AsyncFileSystem)
            put = store_type._pipe_file if is_async else store_type.pipe_file
            return put is not AbstractFileSystem.pipe_file and "mode" in signature(put).parameters

    def copy_to(self, other: "Url") -> None:
        """Puts a copy at another place of the same store, which copies by itself."""
        with self._store() as (store, path), other._store() as (_, target):
            store.cp_file(path, target)

    def remove(self) -> None:
        """Removes the file, if there is one."""
        with self._store() as (store, path), suppress(FileNotFoundError):
            store.rm_file(path)

    def entries(self) -> list[dict[str, Any]]:
        """fsspec's description of each entry of the folder; none for an empty or missing folder."""
        with self._store() as (store, path):
            store.invalidate_cache()
            try:
                found: list[dict[str, Any]] = store.ls(path, detail=True)
            except FileNotFoundError:
                return []
            return [entry for entry in found if entry["name"].rstrip("/") != path.rstrip("/")]

    def found(self) -> list["FoundFile"]:
        """The file itself, all files in the folder, or what matches the pattern; sorted.

        A pattern can match folders too; the others are files.
        """
        with self._store() as (store, path):
            store.invalidate_cache()
            base = path.rstrip("/")
            if glob.has_magic(path):
                base = fixed_part(path)
                entries = store.glob(path, detail=True)
            elif store.isfile(path):
                base = path.rpartition("/")[0]
                entries = {path: store.info(path)}
            else:
                entries = store.find(path, detail=True)
            return sorted(
                FoundFile(
                    Url(store.unstrip_protocol(name).rstrip("/")),
                    name.rstrip("/").removeprefix(base).strip("/"),
                    entry["type"] == "directory",
                    int(entry.get("size") or 0),
                    next((str(entry[key]) for key in _CHANGING if entry.get(key)), ""),
                )
                for name, entry in entries.items()
            )

    @contextmanager
    def stream(self) -> Iterator[BinaryIO]:
        """The file to read and seek in, fetched in pieces."""
        with self._store() as (store, path), store.open(path, "rb") as file:
            yield file

    @contextmanager
    def _store(self) -> Iterator[tuple[Any, str]]:
        """(file system, path in it); turns errors of other libraries into `StorageError`."""
        try:
            yield url_to_fs(self.text)
        except (FileNotFoundError, FileExistsError, StorageError):
            raise
        except Exception as error:
            raise StorageError(f"{self}: {one_line(error)}") from error


@dataclass(frozen=True, order=True)
class FoundFile:
    """An entry of a store, as `Url.found` lists it."""

    url: Url
    name: str
    """Path relative to the folder that was listed, or to that before the first wildcard."""
    is_folder: bool
    size: int
    """In bytes."""
    mark: str
    """Changes with the content: the entity tag or a time; empty where the store tells neither."""


def fixed_part(pattern: str) -> str:
    """The folder before the first wildcard of a pattern."""
    parts = pattern.split("/")
    fixed = next((n for n, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return "/".join(parts[:fixed])


@contextmanager
def _no_bucket(url: Url) -> Iterator[None]:
    """Turns a `FileNotFoundError` of a write into an error: it means that the bucket is missing."""
    try:
        yield
    except FileNotFoundError as error:
        raise StorageError(f"{url}: cannot be written ({error})") from error


Location = Path | Url


def location(given: str | Path) -> Location:
    """A path or a `Url`. Raises `UserError` for a URL that fsspec cannot use."""
    text = str(given)
    if "://" not in text:
        return Path(given)
    try:
        store, path = url_to_fs(text)
    except (ValueError, ImportError) as error:
        raise UserError(
            f"{text}: cannot be used ({error}), expected a folder or a URL that fsspec knows"
        ) from None
    if "file" in (store.protocol if isinstance(store.protocol, tuple) else (store.protocol,)):
        return Path(path)
    return Url(text.rstrip("/"))


def resolved(path: Location) -> Location:
    """The location as it is named from any working directory."""
    return path.resolve() if isinstance(path, Path) else path


def make_folder(path: Location) -> None:
    """Makes a folder with its parents; does nothing in an object store, which has none."""
    if isinstance(path, Path):
        path.mkdir(parents=True, exist_ok=True)


def file_sizes(folder: Location) -> dict[str, int]:
    """Bytes of each file in a folder, by name, sorted; none where there is no such folder."""
    if isinstance(folder, Path):
        sizes: dict[str, int] = {}
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # another process removed or renamed it just now
                    if entry.is_file():
                        sizes[entry.name] = entry.stat().st_size
        return dict(sorted(sizes.items()))
    files = (entry for entry in folder.entries() if entry["type"] == "file")
    return dict(sorted((_last(entry["name"]), int(entry["size"] or 0)) for entry in files))


def folder_names(folder: Location) -> list[str]:
    """Folders in a folder, by name, sorted; none where there is no such folder."""
    if isinstance(folder, Path):
        if not folder.is_dir():
            return []
        return sorted(path.name for path in folder.iterdir() if path.is_dir())
    inside = (entry for entry in folder.entries() if entry["type"] == "directory")
    return sorted(_last(entry["name"]) for entry in inside)


def copy_file(source: Location, target: Location) -> None:
    """Gives `target` the content of `source`, whole or not at all.

    Both are on disk, where a hard link takes no space, or both in one store.
    """
    if isinstance(source, Url) and isinstance(target, Url):
        source.copy_to(target)
        return
    assert isinstance(source, Path) and isinstance(target, Path)
    with atomic_path(target) as temporary:
        try:
            temporary.hardlink_to(source)
        except FileNotFoundError:
            raise
        except OSError:  # another file system, or one without hard links
            shutil.copyfile(source, temporary)


def remove(path: Location) -> None:
    """Removes a file, if there is one."""
    if isinstance(path, Path):
        path.unlink(missing_ok=True)
    else:
        path.remove()


@contextmanager
def opened(path: Location) -> Iterator[BinaryIO]:
    """A file to read and seek in; one of a store is fetched whole, by one request.

    Raises `UserError` for a pipe, a device or a folder: opening a pipe waits for its other end.
    """
    if isinstance(path, Path):
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: is not a regular file")
        with path.open("rb") as file:
            yield file
    else:
        yield io.BytesIO(path.read_bytes())


def read_range(path: Location, offset: int, size: int) -> bytes:
    """The `size` bytes of a file at `offset`; fewer where it ends before."""
    if not isinstance(path, Path):
        return path.read_range(offset, size)
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)


@contextmanager
def written(path: Location) -> Iterator[BinaryIO]:
    """A new file to write; it appears whole at the end of the block, or not if the block raised.

    The content of a file of a store is kept in memory until then.
    """
    if isinstance(path, Path):
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    else:
        memory = io.BytesIO()
        yield memory
        path.write_bytes(memory.getvalue())


def write_text(path: Location, text: str) -> None:
    """Writes a text as UTF-8, whole or not at all."""
    with written(path) as file:
        file.write(text.encode())


def file_sha256(path: Location) -> str:
    """SHA-256 (hex) of a file. Raises OSError where it cannot be read."""
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def _last(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2]
