"""Settings and photographs for the tests of the pipeline."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from pipeline.config import DataSettings, DegradationSettings, PairsSettings
from pipeline.storage.location import Url
from tests.support import object_store
from tests.support.pairs import PAIRS, TRAIN, data_settings, texture


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
    return data_settings(folder)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[None]:
    """A local S3 server, which the environment of this process and of those it starts names."""
    with object_store.s3_server("bucket"):
        yield


@pytest.fixture
def s3(s3_server: None) -> Url:
    """An empty folder of an S3 bucket."""
    return Url(f"s3://bucket/{uuid.uuid4().hex}")


@pytest.fixture
def memory() -> Url:
    """An empty folder in this process's memory."""
    return Url(f"memory://{uuid.uuid4().hex}")


@pytest.fixture(params=["memory", "s3"])
def store(request: pytest.FixtureRequest) -> Url:
    """An empty folder of an object store, of either kind."""
    url: Url = request.getfixturevalue(request.param)
    return url
