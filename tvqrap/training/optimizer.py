"""Adam with a learning-rate schedule and gradient clipping."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from tvqrap.config.training import Optimiser
from tvqrap.training.distributed import Workers

COSINE_END = 0.02


def learning_rate(settings: Optimiser, step: int, steps: int) -> float:
    """Learning rate of step `step` (from 0) of `steps`: linear warm-up, then the schedule."""
    rate = settings.learning_rate * min(1.0, (step + 1) / max(1, settings.warmup_steps))
    if settings.lr_schedule == "cosine":
        progress = step / max(1, steps)
        rate *= COSINE_END + (1 - COSINE_END) * 0.5 * (1 + math.cos(math.pi * progress))
    return rate


def set_learning_rate(
    optimiser: torch.optim.Optimizer, settings: Optimiser, step: int, steps: int
) -> None:
    """Sets the learning rate of step `step` (from 0) of `steps`."""
    for group in optimiser.param_groups:
        group["lr"] = learning_rate(settings, step, steps)


def adam(parameters: Iterable[nn.Parameter], settings: Optimiser) -> torch.optim.Adam:
    """Creates Adam over the parameters that require a gradient."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    return torch.optim.Adam(trained, settings.learning_rate, settings.betas, fused=True)


def apply_gradients(
    optimiser: torch.optim.Optimizer,
    clip: float | None,
    workers: Workers,
    terms: Iterable[Tensor] = (),
) -> tuple[Tensor, bool]:
    """Sums the workers' gradients, clips and applies them.

    Returns the norm before clipping, and whether they were applied. They are dropped where the norm
    or one of `terms`, scalars that are equal on all workers, is not finite.
    """
    parameters = [
        parameter
        for group in optimiser.param_groups
        for parameter in group["params"]
        if parameter.grad is not None
    ]
    gradients = [parameter.grad for parameter in parameters]
    workers.all_reduce(gradients)
    norm = torch.nn.utils.get_total_norm(gradients)
    finite = all_finite([norm, *terms])
    if finite:
        if clip is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, clip, norm)
        optimiser.step()
    optimiser.zero_grad()
    return norm, finite


def all_finite(scalars: Iterable[Tensor]) -> bool:
    """Whether no scalar is infinite or NaN, as float32: the loop records them as such."""
    together = torch.stack([value.detach().float().reshape(()) for value in scalars])
    return bool(together.isfinite().all())
