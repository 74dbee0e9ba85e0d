"""Where results go, checked before hours are spent on them."""

import tempfile
from pathlib import Path

from tvqrap.runtime.errors import UserError


def check_folder(folder: Path) -> None:
    """Raises UserError where a folder cannot be made because it, or one above it, is a file."""
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise UserError(f"{path}: is a file, expected a folder for the results")


def check_writable(folder: Path) -> None:
    """Raises UserError where nothing can be written to a folder, or to the one it would be in.

    It leaves nothing there: what comes next may still fail.
    """
    check_folder(folder)
    existing = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise UserError(f"{folder}: cannot be written to ({error.strerror})") from None


def check_overwrite(file: Path, overwrite: bool) -> None:
    """Raises UserError where a file for results is there already, or a folder is, or cannot be."""
    if file.is_dir():
        raise UserError(f"{file}: is a folder, expected a name for the results")
    if file.exists() and not overwrite:
        raise UserError(f"{file}: is there already; --overwrite replaces it")
    check_writable(file.parent)
