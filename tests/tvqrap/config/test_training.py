"""Settings of trainings."""

import pytest
from pydantic import ValidationError

from tests.support.profile import smoke
from tvqrap.config.training import Compute


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
