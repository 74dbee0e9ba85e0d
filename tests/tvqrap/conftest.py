"""Fixtures of several parts: a model, stand-ins of networks, a browser."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from tests.support.networks import saved_upscaler
from tests.support.upscaling import TINY, repeated
from tvqrap.objectives.image_losses import image_loss
from tvqrap.training import validation
from tvqrap.upscaling.upscaler import Upscaler


class Blurred(nn.Module):
    """A distance in the place of a perceptual network's, without its size."""

    def forward(self, image: Tensor, target: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(image - target, 4).square().mean((1, 2, 3))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model folder of a small upscaler."""
    return saved_upscaler(tmp_path_factory.mktemp("models") / "tiny", TINY)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels are repeated in the place of the network's work."""
    monkeypatch.setattr(Upscaler, "rows", repeated)


@pytest.fixture(scope="module")
def small_distance() -> Iterator[None]:
    """For tests in which it does not matter what the perceptual network is."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (image_loss, validation):
            patch.setattr(module, "perceptual_distance", lambda name: Blurred())
        yield


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, driven by playwright. Skips where one of them is not installed."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "chrome")
    path = next((found for name in names if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu", "--headless"]
        )
        yield found
        found.close()
