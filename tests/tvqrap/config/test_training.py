"""Settings of trainings."""

import pytest
from pydantic import ValidationError

from tests.support.profile import smoke
from tests.support.training import image_losses
from tvqrap.config.training import Compute, ImageLosses


def compute(**values: object) -> Compute:
    return Compute(**{**smoke("compute"), **values})  # type: ignore[arg-type]


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:1", "mps", "xpu"])
def test_devices_are_those_of_the_commands(device: str) -> None:
    assert compute(device=device, workers=1).device == device


def test_other_devices_are_refused() -> None:
    with pytest.raises(ValidationError, match="device is 'tpu', expected auto, cpu"):
        compute(device="tpu")
    with pytest.raises(ValidationError, match="'cuda:1' with 2 workers, expected auto, cpu or"):
        compute(device="cuda:1", workers=2)
    with pytest.raises(ValidationError, match="float64 with device mps"):
        compute(device="mps", precision="float64")


def test_a_gan_term_alone_is_refused() -> None:
    """Its weight is relative to the other losses."""
    nothing = image_losses(perceptual=0.0) | {"mse": 0.0, "l1": 0.0}
    with pytest.raises(ValidationError, match=r"image\.mse, .* are all 0; one must be"):
        ImageLosses.model_validate(nothing)
    nothing["adversarial"] |= {"weight": 0.0}
    assert ImageLosses.model_validate(nothing)
