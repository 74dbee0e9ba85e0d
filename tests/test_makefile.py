"""`make repro` in a folder without git."""

import os
import shutil
import subprocess
from pathlib import Path

from tests.support.paths import ROOT


def test_an_archive_without_git_is_told_before_anything_is_installed(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "overrides.txt"):
        shutil.copy(ROOT / name, tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    done = subprocess.run(
        ["make", "repro"],
        cwd=tmp_path,
        env={**os.environ, "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "make repro: this folder is not a git repository" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == before
