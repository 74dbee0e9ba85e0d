"""The checkout of the tests of experiments."""

import shutil
from pathlib import Path

import pytest

from tests.support.experiments import SMALL
from tests.support.paths import ROOT


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The code and photographs of the project, and the recipe small.yaml; the working directory."""
    for part in ("stages", "pipeline", "tvqrap"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / part, tmp_path / part, ignore=ignored)
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/photos").symlink_to(ROOT / "data/photos")
    (tmp_path / "models/none").mkdir(parents=True)
    (tmp_path / "small.yaml").write_text(SMALL)
    monkeypatch.chdir(tmp_path)
    return tmp_path
