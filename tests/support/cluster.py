"""A Ray cluster of two nodes on this machine, for tests that take one away."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

_TRIES = 3


def two_nodes() -> tuple[Any, Any]:
    """(cluster, its second node), each node with one CPU, with a token as `ray start` asks for."""
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "include_dashboard": False}
    cluster = _patiently(lambda: Cluster(initialize_head=True, head_node_args=node))
    return cluster, _patiently(lambda: cluster.add_node(num_cpus=1))


class NodeRemover:
    """Takes a node away as soon as one of its workers has a file in `folder` half written.

    Called after each shard. Workers may still be starting, so that it waits up to 20 seconds.
    """

    def __init__(self, cluster: Any, node: Any, folder: Path) -> None:
        self.cluster = cluster
        self.node = node
        self.folder = folder
        self.workers: list[str] = []
        """Process IDs of the workers that were writing when the node was taken away."""

    def __call__(self, samples: int) -> None:
        if self.workers:
            return
        (raylet,) = self.node.all_processes["raylet"]
        deadline = time.monotonic() + 20
        while not self.workers and time.monotonic() < deadline:
            children = psutil.Process(raylet.process.pid).children(recursive=True)
            pids = {each.pid for each in children}
            halves = [path.name.split(".") for path in self.folder.glob(".*.tmp")]
            self.workers.extend(pid for *_, pid, _, _ in halves if int(pid) in pids)
            if self.workers:
                self.cluster.remove_node(self.node, allow_graceful=False)


def _patiently(start: Callable[[], Any]) -> Any:
    """Ray gives a node 30 seconds to start, which a busy machine exceeds now and then."""
    for _ in range(_TRIES - 1):
        try:
            return start()
        except Exception as error:  # Ray raises no kind of its own
            if "timed out during startup" not in str(error):
                raise
    return start()
