"""Fixtures of the tests of the page."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.support.ui import Ui
from tests.support.upscaling import TINY
from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.pretrained.folder import save_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    torch.manual_seed(0)
    save_model(folder, "upscaler", UpscalerNetwork(TINY), TINY, {})
    return folder


@pytest.fixture
def ui(tmp_path: Path, tiny_model: Path) -> Iterator[Ui]:
    (tmp_path / "files").mkdir()
    made = Ui(tmp_path / "files", tiny_model, max_pixels=10_000)
    yield made
    made.close()
