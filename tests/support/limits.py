"""Limits of the system that tests run into."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


def lock_folders(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets nobody list folders of that name: the tests' user may have every permission."""
    scandir = os.scandir

    def refuse(path: str) -> Any:
        if Path(path).name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", refuse)


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Lets no file grow beyond `size` bytes: a write is cut short there, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
