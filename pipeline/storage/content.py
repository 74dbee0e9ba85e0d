"""Content by its locator: a text from which any process reads a photograph's bytes.

A locator is an absolute path or a URL that fsspec knows. `FILE::OFFSET+SIZE` is a part of such a
file, for a member of an uncompressed tar archive. `lmdb:FOLDER::KEY` is a value of an LMDB.
"""

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipeline.storage.location import location, read_range
from tvqrap.runtime.errors import UserError

MAX_BYTES = 2**30
"""Bytes of the largest photograph that is read into memory."""

_PART = re.compile(r"(?P<file>.+)::(?P<offset>\d{1,18})\+(?P<size>\d{1,18})", re.DOTALL)
_LMDB = "lmdb:"


def part_locator(file: str, offset: int, size: int) -> str:
    """The locator of `size` bytes at `offset` in a file."""
    return f"{file}::{offset}+{size}"


def lmdb_locator(folder: Path, key: str) -> str:
    """The locator of a value of an LMDB."""
    return f"{_LMDB}{folder}::{key}"


def is_locator(text: str) -> bool:
    """Whether it is a locator; no relative path is one."""
    return text.startswith(("/", _LMDB)) or "://" in text


def plain_path(locator: str) -> Path | None:
    """The path of a locator that names a whole file on disk; None for another one."""
    whole = locator.startswith("/") and _PART.fullmatch(locator) is None
    return Path(locator) if whole else None


def read_content(locator: str) -> bytes:
    """The bytes that a locator names.

    Raises OSError where they cannot be read, ValueError where there are more than `MAX_BYTES` or
    fewer than it says, and `UserError` where a package is missing.
    """
    if locator.startswith(_LMDB):
        folder, _, key = locator.removeprefix(_LMDB).rpartition("::")
        content = _lmdb_value(folder, key)
    elif part := _PART.fullmatch(locator):
        size = int(part["size"])
        check_size(size)
        content = read_range(location(part["file"]), int(part["offset"]), size)
        if len(content) != size:
            raise ValueError(f"{len(content)} bytes, expected {size}: the archive was cut")
    elif path := plain_path(locator):
        check_size(path.stat().st_size)
        content = path.read_bytes()
    else:
        content = location(locator).read_bytes()
    check_size(len(content))
    return content


def check_size(size: int) -> None:
    """Raises ValueError for more bytes than are read into memory."""
    if size > MAX_BYTES:
        raise ValueError(f"{size} bytes, at most {MAX_BYTES} are read")


def check_lmdb() -> None:
    """Raises `UserError` where the package that reads an LMDB is missing."""
    try:
        import lmdb  # noqa: F401  # an optional package
    except ImportError:
        raise UserError(
            "data.photos: found an LMDB, expected the package lmdb to read it (pip install lmdb)"
        ) from None


def _lmdb_value(folder: str, key: str) -> bytes:
    check_lmdb()
    import lmdb

    try:
        with _environment(folder).begin(buffers=True) as transaction:
            value = transaction.get(key.encode())
            if value is None:
                raise FileNotFoundError(f"no value {key}")
            check_size(len(value))
            return bytes(value)
    except lmdb.Error as error:
        raise OSError(f"{folder}: {error}") from None


@lru_cache(maxsize=16)
def _environment(folder: str) -> Any:
    import lmdb

    return lmdb.open(folder, readonly=True, lock=False, readahead=False, meminit=False)
