"""Where results go, checked before hours are spent on them."""

from pathlib import Path

from tvqrap.errors import UserError


def refuse_file_in_the_way(folder: Path) -> None:
    """Raises UserError where a folder cannot be made because it, or one above it, is a file."""
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise UserError(f"{path}: is a file, expected a folder for the results")
