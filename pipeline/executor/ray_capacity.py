"""How many actors a Ray cluster has room for."""

import importlib
import time
from collections.abc import Iterable, Mapping
from typing import Any

_ROUNDING = 1e-6
"""Parts of GPUs are floats."""


def actors_that_fit(
    ray: Any, wanted: int, held: int, cpus: float, gpus: float, patience: float
) -> int:
    """How many actors, up to `wanted`, fit what is free; each has to fit one node.

    `held` actors of this run are there already. Waits up to `patience` seconds where there is room
    by the nodes' sizes: actors that ended give back what they held a moment later.
    """

    def fit(nodes: Iterable[Mapping[str, float]]) -> int:
        return sum(actors_on_node(resources, cpus, gpus) for resources in nodes)

    room = fit(node["Resources"] for node in ray.nodes() if node["Alive"]) - held
    wanted = max(0, min(wanted, room))
    deadline = time.monotonic() + patience
    while (free := fit(_free_by_node())) < wanted and time.monotonic() < deadline:
        time.sleep(0.1)
    return min(wanted, free)


def actors_on_node(resources: Mapping[str, float], cpus: float, gpus: float) -> int:
    """How many actors of `cpus` and `gpus` fit what a node has, CPU and GPU, or has free.

    An actor that takes a part of a GPU takes it of one: two of 0.4 fit a GPU, and the rests of two
    GPUs are no third. What is free of a node comes as a sum; its fraction counts as one rest.
    """
    limits = []
    if cpus > 0:
        limits.append(int(resources.get("CPU", 0) / cpus + _ROUNDING))
    if gpus > 0:
        present = resources.get("GPU", 0)
        whole = int(present + _ROUNDING)
        if gpus < 1:
            rest = max(0.0, present - whole)
            limits.append(whole * int(1 / gpus + _ROUNDING) + int(rest / gpus + _ROUNDING))
        else:
            limits.append(int(whole / gpus + _ROUNDING))
    return min(limits, default=0)


def _free_by_node() -> list[dict[str, float]]:
    """What each node of the cluster has free: `ray.available_resources` is the sum over nodes."""
    state = importlib.import_module("ray._private.state")
    found: dict[str, dict[str, float]] = state.available_resources_per_node()
    return list(found.values())


def alive_nodes(ray: Any) -> frozenset[str]:
    """IDs of the cluster's nodes that are there now."""
    return frozenset(node["NodeID"] for node in ray.nodes() if node["Alive"])
