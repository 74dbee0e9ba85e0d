"""What all tests share."""

import os
from collections.abc import Iterator
from typing import Any

import pytest

# Before torch is imported: threads of several test processes on the same cores wait for each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"
# Before ray is imported anywhere: with tokens, a later cluster of another address would be refused.
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Any]:
    """The ray module, connected to one local cluster of two CPUs for the whole session."""
    import ray

    ray.init("local", num_cpus=2, include_dashboard=False, object_store_memory=100 * 2**20)
    yield ray
    ray.shutdown()
