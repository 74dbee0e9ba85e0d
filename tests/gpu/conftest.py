"""The table of the GPU tests, printed at the end and written where TVQRAP_GPU_REPORT says."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.gpu.measure import Table

TABLE = pytest.StashKey[Table]()
FOLDER = "TVQRAP_GPU_REPORT"


@pytest.fixture(scope="session")
def table(pytestconfig: pytest.Config) -> Iterator[Table]:
    """The rows of all tests. Skips where there is no CUDA device."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    yield pytestconfig.stash.setdefault(TABLE, Table())


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Prints the table, and writes it as `gpu.md`."""
    found = config.stash.get(TABLE, None)
    if found is None or not found.rows:
        return
    text = found.markdown("cuda")
    terminalreporter.write_line(f"\n{text}")
    if folder := os.environ.get(FOLDER):
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / "gpu.md").write_text(text)
