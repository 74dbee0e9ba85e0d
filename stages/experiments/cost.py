"""Measures what upscaling costs with the network of each point of a recipe (Table 3's columns)."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from stages.experiments.recipe import Run
from tvqrap.architecture import Architecture
from tvqrap.cost.benchmark import Measured, measure
from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.pretrained.folder import save_model
from tvqrap.runtime.progress import progress


def point_costs(
    runs: Sequence[Run], side: int, *, rounds: int, device: str
) -> tuple[Measured, dict[str, str]]:
    """Measures upscaling one LR image of `side` x `side` pixels with untrained networks.

    Points whose networks are alike share a measurement. Also returns the names of the points of
    each measured model.
    """
    points: dict[Architecture, list[str]] = {}
    for run in runs:
        named = points.setdefault(run.params.architecture, [])
        if run.point not in named:
            named.append(run.point)
    with tempfile.TemporaryDirectory() as folder:
        names = {}
        for architecture, named in points.items():
            torch.manual_seed(0)
            network = UpscalerNetwork(architecture)
            path = Path(folder, named[0])
            save_model(path, "upscaler", network, architecture, {})
            names[str(path)] = ", ".join(named)
        with progress("cost", total=len(names) * (rounds + 2), unit="run") as advance:
            found = measure(
                list(names),
                [side],
                rounds=rounds,
                device=device,
                advance=lambda count, note: advance(count, Path(note).name),
            )
    return found, names
