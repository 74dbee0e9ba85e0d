"""A Ray cluster of two nodes on this machine, for tests that take one away."""

import os
from collections.abc import Callable
from typing import Any

_TRIES = 3


def two_nodes() -> tuple[Any, Any]:
    """(cluster, its second node), each node with one CPU, with a token as `ray start` asks for."""
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "include_dashboard": False}
    cluster = _patiently(lambda: Cluster(initialize_head=True, head_node_args=node))
    return cluster, _patiently(lambda: cluster.add_node(num_cpus=1))


def _patiently(start: Callable[[], Any]) -> Any:
    """Ray gives a node 30 seconds to start, which a busy machine exceeds now and then."""
    for _ in range(_TRIES - 1):
        try:
            return start()
        except Exception as error:  # Ray raises no kind of its own
            if "timed out during startup" not in str(error):
                raise
    return start()
