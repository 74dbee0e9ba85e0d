"""Adam with a learning-rate schedule and gradient clipping."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tvqrap.config.training import Optimiser
from tvqrap.training.distributed import Workers


def scheduled(peak: float, settings: Optimiser, step: int, steps: int) -> float:
    """Learning rate of step `step` (from 0) of `steps`, of a network whose rate is `peak`.

    A linear warm-up, then the schedule. The warm-up is a part of the schedule's steps.
    """
    rate = peak * min(1.0, (step + 1) / max(1, settings.warmup_steps))
    if settings.lr_schedule == "cosine":
        progress = step / max(1, steps)
        falling = 0.5 * (1 + math.cos(math.pi * progress))
        rate *= settings.lr_floor + (1 - settings.lr_floor) * falling
    if settings.lr_schedule == "step":
        rate *= settings.lr_factor ** sum(step >= each for each in settings.lr_milestones)
    return rate


def adam(groups: Sequence[Iterable[nn.Parameter]], settings: Optimiser) -> torch.optim.Adam:
    """Creates Adam over the parameters that require a gradient, in groups with own rates."""
    trained: list[dict[str, Any]] = [
        {"params": [parameter for parameter in group if parameter.requires_grad]}
        for group in groups
    ]
    return torch.optim.Adam(trained, settings.learning_rate, settings.betas, fused=True)


def sum_gradients(optimiser: torch.optim.Optimizer, workers: Workers) -> Tensor:
    """Sums the gradients of all workers in place; returns the norm of the sum."""
    gradients = [each.grad for each in _with_gradient(optimiser) if each.grad is not None]
    workers.all_reduce(gradients)
    return torch.nn.utils.get_total_norm(gradients)


def apply_gradients(
    optimiser: torch.optim.Optimizer,
    wanted: Tensor,
    clip: float | None = None,
    norm: Tensor | None = None,
) -> None:
    """Applies the gradients where `wanted` (bool, a scalar), and drops them.

    With `clip`, those of a larger `norm` are clipped first. The device decides without a
    synchronisation, except on MPS. `optimiser` is a fused Adam.
    """
    if clip is not None and norm is not None:
        torch.nn.utils.clip_grads_with_norm_(_with_gradient(optimiser), clip, norm)
    # Where this is 1, a fused Adam leaves weights, moments and its count of steps as they are; it
    # is how torch.amp.GradScaler skips an update.
    optimiser.found_inf = wanted.logical_not().float()  # type: ignore[attr-defined]
    if wanted.device.type != "mps" or wanted:  # the fused Adam of MPS does not read it
        optimiser.step()
    optimiser.zero_grad()


def _with_gradient(optimiser: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [
        parameter
        for group in optimiser.param_groups
        for parameter in group["params"]
        if parameter.grad is not None
    ]


def stacked(scalars: Iterable[Tensor]) -> Tensor:
    """Scalars as one float32 vector, as which the loop records them."""
    return torch.stack([value.detach().float().reshape(()) for value in scalars])
