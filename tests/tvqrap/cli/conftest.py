"""Fixtures of the tests of commands."""

from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result

from tests.support import commands
from tests.support.upscaling import TINY
from tvqrap.architecture import Architecture
from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.pretrained.folder import save_model


def saved(folder: Path, architecture: Architecture) -> Path:
    """A model folder of an untrained upscaler."""
    torch.manual_seed(0)
    save_model(folder, "upscaler", UpscalerNetwork(architecture), architecture, {})
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("models") / "tiny", TINY)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The narrowest upscaler, which takes LR images in multiples of 16 pixels."""
    architecture = Architecture(width=0.0625, codebook=16, texture=4, structure=8, swin_blocks=2)
    return saved(tmp_path_factory.mktemp("models") / "tiny", architecture)


@pytest.fixture
def run(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Calls `upscale` with the tiny model in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object, stdin: bytes | None = None) -> Result:
        return commands.run("upscale", *arguments, "--model", tiny_model, stdin=stdin)

    return call
