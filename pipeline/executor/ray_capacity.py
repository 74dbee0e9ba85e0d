"""Counts the actors that a Ray cluster has room for."""

from collections.abc import Iterable, Mapping
from typing import Any

_ROUNDING = 1e-6
"""Fractions of GPUs are floats."""


def alive_nodes(ray: Any) -> dict[str, dict[str, float]]:
    """The resources (CPU, GPU, ...) of each node of the cluster that is alive, by node ID."""
    return {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}


def actors_that_fit(nodes: Iterable[Mapping[str, float]], cpus: float, gpus: float) -> int:
    """How many actors of `cpus` and `gpus` fit nodes of these resources; each has to fit one."""
    return sum(_actors_on_node(resources, cpus, gpus) for resources in nodes)


def _actors_on_node(resources: Mapping[str, float], cpus: float, gpus: float) -> int:
    """How many actors fit one node.

    An actor takes a fraction of a GPU from a single GPU. Two actors of 0.4 fit a GPU, and the rests
    of two GPUs do not make room for a third. A fraction in a node's GPUs is the rest of one GPU.
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
