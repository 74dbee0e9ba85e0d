"""Adam with a schedule and clipping, as each stage's settings ask."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from tvqrap.training.settings import Optimiser

COSINE_END = 0.02


def learning_rate(settings: Optimiser, step: int, steps: int) -> float:
    """Learning rate of step `step` (from 0) of `steps`: linear warm-up, then as `decay` says."""
    rate = settings.learning_rate * min(1.0, (step + 1) / max(1, settings.warmup))
    if settings.decay == "cosine":
        progress = step / max(1, steps)
        rate *= COSINE_END + (1 - COSINE_END) * 0.5 * (1 + math.cos(math.pi * progress))
    return rate


def adam(parameters: Iterable[nn.Parameter], settings: Optimiser) -> torch.optim.Adam:
    """Adam over the parameters that are trained."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    return torch.optim.Adam(trained, settings.learning_rate, settings.betas, fused=True)


def apply_gradients(optimiser: torch.optim.Optimizer, settings: Optimiser) -> Tensor:
    """Clips and applies the gradients at hand; returns their norm before clipping."""
    parameters = [
        parameter
        for group in optimiser.param_groups
        for parameter in group["params"]
        if parameter.grad is not None
    ]
    norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in parameters])
    if settings.clip is not None:
        torch.nn.utils.clip_grads_with_norm_(parameters, settings.clip, norm)
    optimiser.step()
    optimiser.zero_grad()
    return norm
