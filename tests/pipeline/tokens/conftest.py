"""Material for the tests of the tokens."""

from pathlib import Path

import pytest

from tests.support.tokens import make_material


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(folder of one pair set of seven samples in three shards, folder of a tokenizer)."""
    return make_material(tmp_path_factory.mktemp("tokens"))
