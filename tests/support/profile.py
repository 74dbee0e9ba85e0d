"""Settings of the profile `smoke`, which tests start from."""

from copy import deepcopy
from functools import cache
from typing import Any

from stages.profile import expanded, profile_path, read_mapping
from tests.support.paths import ROOT


def smoke(section: str) -> Any:
    """A section of the profile, as YAML holds it: a new copy with each call."""
    return deepcopy(_smoke()[section])


@cache
def _smoke() -> dict[str, Any]:
    path = profile_path("smoke", ROOT)
    return read_mapping(expanded(path), str(path))
