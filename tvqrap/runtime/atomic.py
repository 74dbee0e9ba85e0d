"""Files that appear whole or not at all."""

import hashlib
import os
import platform
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

_TEMPORARY = re.compile(r"\.tvqrap\.([0-9a-f]{8})\.(\d+)\.[0-9a-f]{8}\.tmp")
"""Names of files being written: where the process runs, its number, and a random part."""
_DAYS_ABANDONED = 7
"""Age after which a temporary file of another machine counts as left behind."""

_swept: set[str] = set()


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary path in the folder of `path` (made if need be) to write to.

    At the end the file is flushed to the disk and takes the name `path`; it is removed if anything
    was raised. An OSError that names no file, or the temporary one, names `path`. The first call
    for a folder removes what dead processes left there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep_once(path.parent)
    temporary = path.with_name(_temporary_name())
    try:
        with naming(path):
            yield temporary
            _flush_to_disk(temporary)
            temporary.replace(path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


@contextmanager
def temporary_folder(parent: Path | None = None) -> Iterator[Path]:
    """Yields a new folder that only this user can read, and removes it in the end.

    It is in `parent`, or where the system keeps temporary files. Folders that dead processes left
    there are removed.
    """
    parent = Path(tempfile.gettempdir()) if parent is None else parent
    with suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            match = _TEMPORARY.fullmatch(entry.name)
            if (
                match
                and entry.is_dir(follow_symlinks=False)
                and _is_left_behind(Path(entry.path), match[1], int(match[2]))
            ):
                shutil.rmtree(entry.path, ignore_errors=True)  # fails for those of other users
    folder = parent / _temporary_name()
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_atomic(path: Path, content: bytes | str) -> None:
    """Writes one file (text as UTF-8) whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Gives an OSError that names no file, as of a full disk, or a temporary one, the name `path`.

    One without a number passes as it is.
    """
    try:
        yield
    except OSError as error:
        named = error.filename is not None and not is_temporary(Path(str(error.filename)).name)
        if named or error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error


def is_temporary(name: str) -> bool:
    """Whether a file name is one that `atomic_path` gives."""
    return _TEMPORARY.fullmatch(name) is not None


def sweep_temporaries(folder: Path) -> None:
    """Removes the temporary files in a folder whose processes are dead.

    Those of other machines are removed when nothing was written to them for a week.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = _TEMPORARY.fullmatch(entry.name)
            if match and _is_left_behind(Path(entry.path), match[1], int(match[2])):
                with suppress(OSError):
                    Path(entry.path).unlink()


def _temporary_name() -> str:
    # Short, so that every name that the disk allows can be written. Processes of two hosts may
    # have the same number, and threads of one process write at the same time.
    return f".tvqrap.{_origin()}.{os.getpid()}.{secrets.token_hex(4)}.tmp"


def _sweep_once(folder: Path) -> None:
    name = os.path.realpath(folder)
    if name not in _swept:
        _swept.add(name)
        sweep_temporaries(folder)


def _is_left_behind(path: Path, origin: str, process: int) -> bool:
    # Windows has no signal 0: it would interrupt the process. There, age alone decides.
    if origin == _origin() and sys.platform != "win32":
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        except OSError:  # another user's
            pass
        return False
    try:
        age = time.time() - path.stat().st_mtime
    except OSError:
        return False
    return age > _DAYS_ABANDONED * 24 * 3600


def _flush_to_disk(path: Path) -> None:
    # Windows flushes no file that is open to be read alone. A link to one in a cache of DVC, which
    # is read-only, can be opened in no other way.
    descriptor = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@cache
def _origin() -> str:
    """Identifies the scope of process numbers: this machine since its start, this container."""
    parts = [platform.node()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]
