"""Fixtures of the tests of commands."""

from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from tests.support.upscaling import TINY
from tvqrap.cli.main import app
from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.pretrained.folder import save_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("models") / "tiny"
    save_model(path, "upscaler", UpscalerNetwork(TINY), TINY, {})
    return path


@pytest.fixture
def run(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Calls `upscale` with the tiny model in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object, stdin: bytes | None = None) -> Result:
        words = ["upscale", *map(str, arguments), "--model", str(tiny_model)]
        return CliRunner().invoke(app, words, input=stdin)

    return call
