"""Fixtures of the training tests."""

from collections.abc import Iterator

import pytest
from torch import Tensor, nn

from tvqrap.objectives.image_losses import image_loss
from tvqrap.training import validation


class Blurred(nn.Module):
    """A distance in the place of a perceptual network's, without its size."""

    def forward(self, image: Tensor, target: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(image - target, 4).square().mean((1, 2, 3))


@pytest.fixture(scope="module")
def small_distance() -> Iterator[None]:
    """For tests in which it does not matter what the perceptual network is."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (image_loss, validation):
            patch.setattr(module, "perceptual_distance", lambda name: Blurred())
        yield
