"""Checks of output paths, before hours are spent on results."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

from tvqrap.runtime.errors import UserError


def check_folder(folder: Path) -> None:
    """Raises UserError where a folder cannot be made because it, or one above it, is a file."""
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise UserError(f"{path}: is a file, expected a folder for the results")


def check_writable(folder: Path) -> None:
    """Raises UserError where nothing can be written to a folder, or where it cannot be made.

    Leaves nothing there, since later checks may still fail.
    """
    check_folder(folder)
    existing = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise UserError(f"{folder}: cannot be written to ({error.strerror})") from None


def check_overwrite(file: Path, overwrite: bool) -> None:
    """Raises UserError where a file for results exists and may not be replaced, or cannot be made.

    `overwrite` is whether it may be replaced.
    """
    if file.is_dir():
        raise UserError(f"{file}: is a folder, expected a name for the results")
    if file.exists() and not overwrite:
        raise UserError(f"{file}: exists already; --overwrite replaces it")
    check_writable(file.parent)


def check_folder_overwrite(
    folder: Path, names: Iterable[str], content: str, overwrite: bool
) -> None:
    """As `check_overwrite`, for a folder that holds results if it has an entry of `names`.

    `content` names them in the message, such as "a model".
    """
    if not overwrite and any((folder / name).exists() for name in names):
        raise UserError(f"{folder}: holds {content} already; --overwrite replaces it")
    check_writable(folder)
