"""Folders and files of the project."""

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]


@cache
def project_files() -> tuple[str, ...]:
    """Files that git tracks, and new ones that it does not ignore, relative to `ROOT`."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    return tuple(name for name in listed.split("\0") if name and (ROOT / name).exists())
