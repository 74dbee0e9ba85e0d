"""Settings and photographs for the tests of the pipeline."""

from pathlib import Path

import pytest
from PIL import Image

from pipeline.settings import DataSettings, DegradationSettings, PairsSettings
from tests.pipeline.material import PAIRS, TRAIN, texture


@pytest.fixture
def train() -> DegradationSettings:
    """The training degradation."""
    return DegradationSettings.model_validate(TRAIN)


@pytest.fixture
def pairs() -> PairsSettings:
    """Two small sets."""
    return PairsSettings.model_validate(PAIRS)


@pytest.fixture
def data(tmp_path: Path) -> DataSettings:
    """Eight small photographs in a folder of their own."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(8):
        image = texture(number, 64 + 7 * number, 100 - 5 * number)
        Image.fromarray(image).save(folder / f"p{number}.png")
    return DataSettings(photos=str(folder), min_side=48, max_pixels=100_000, max_lost=0.5)
