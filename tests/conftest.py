"""What all tests share."""

import os
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

# Before torch is imported: threads of several test processes on the same cores wait for each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"
# Before ray is imported anywhere: clusters have a token, as those of users have, and do not write
# theirs to the home of whoever runs the tests.
os.environ.pop("RAY_AUTH_MODE", None)
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# A disk that is nearly full (Ray complains at 95 %) is no concern of a test.
os.environ["RAY_local_fs_capacity_threshold"] = "1"  # noqa: SIM112 (Ray spells it so)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Any]:
    """The ray module, connected to one local cluster of two CPUs for the whole session."""
    import ray

    # A thread would print the cluster's messages into the output of the command under test.
    ray.init(
        "local",
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=100 * 2**20,
        log_to_driver=False,
    )
    yield ray
    ray.shutdown()
