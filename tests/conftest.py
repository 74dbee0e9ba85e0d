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
# A disk that is nearly full (Ray complains at 95 %) is no concern of a test.
os.environ["RAY_local_fs_capacity_threshold"] = "1"  # noqa: SIM112 (Ray spells it so)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Any]:
    """The ray module, connected to one local cluster of two CPUs for the whole session."""
    import ray

    # What the cluster has to say would come, from a thread, into the output of whatever command a
    # test is running at that moment.
    ray.init(
        "local",
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=100 * 2**20,
        log_to_driver=False,
    )
    yield ray
    ray.shutdown()
