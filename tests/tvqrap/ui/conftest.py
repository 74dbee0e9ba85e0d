"""Fixtures of the tests of the page."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ui import Ui


@pytest.fixture
def ui(tmp_path: Path, tiny_model: Path) -> Iterator[Ui]:
    (tmp_path / "files").mkdir()
    made = Ui(tmp_path / "files", tiny_model, max_pixels=10_000)
    yield made
    made.close()
