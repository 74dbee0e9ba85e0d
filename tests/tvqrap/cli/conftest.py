"""Fixtures of the tests of commands."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tests.support import commands
from tests.support.networks import saved_upscaler
from tvqrap.architecture import Architecture


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The narrowest upscaler, which takes LR images in multiples of 16 pixels."""
    architecture = Architecture(width=0.0625, codebook=16, texture=4, structure=8, swin_blocks=2)
    return saved_upscaler(tmp_path_factory.mktemp("models") / "tiny", architecture)


@pytest.fixture
def run(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Calls `upscale` with the tiny model in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object, stdin: bytes | None = None) -> Result:
        return commands.run("upscale", *arguments, "--model", tiny_model, stdin=stdin)

    return call
